"""ScienceQA: multiple choice from school lessons, with and without an image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import MAX_NEW_TOKENS_LONG, Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.files import OPTION_LETTER, Sample, Source, check_images, image_path, options_text
from hf_clip_kd.evaluation.vqa.metric import VQAMetric

# LLaVA's expression: its last dot matches any character.
_SENTENCE = re.compile("The answer is ([A-Z]).")


def read_letter(text: str, protocol: str = "llava") -> str:
    """Read the letter that an answer names; `""` if it names none."""
    if protocol == "lmms_eval":
        return text.upper() if len(text) == 1 else text[0] if text[:1].isupper() and text[1:2] == "." else ""
    if text[:1] in tuple("ABCDE") and (len(text) == 1 or text[1:3] == ". "):
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else ""


class ScienceQA(VQAMetric):
    """
    Multiple choice ([ScienceQA](https://huggingface.co/papers/2209.09513)).

    `accuracy` is over all questions, `accuracy_img` over those with an image. Papers quote the second.

    Protocols:
        llava: a right answer is the letter, starts with `X. `, or has one sentence `The answer is X.`.
        lmms_eval: a right answer is the letter in any case, or starts with `X.`.
    """

    benchmark = "scienceqa"
    reference_fields = ("answers", "image")
    main_metric = "accuracy_img"

    def judge(self, predictions, references, protocol, seed):
        scores = np.array(
            [
                float(read_letter(text, protocol) == reference["answers"][0])
                for text, reference in zip(predictions, references, strict=True)
            ]
        )
        with_image = np.array([reference["image"] is not None for reference in references])

        def summary(weights):
            metrics = {"accuracy": weighted_mean(scores, weights)}
            if with_image.any():
                metrics["accuracy_img"] = weighted_mean(scores[with_image], weights[with_image])
            return metrics

        return scores, summary


def read_scienceqa(
    problems: str | Path, splits: str | Path, image_folder: str | Path | None = None, split: str = "test"
) -> list[Sample]:
    """
    Read ScienceQA's `problems.json` and `pid_splits.json`.

    Args:
        problems (`str` or `Path`): `{id: {"question", "choices", "answer"}}`, some with `hint`, `image`, `subject`.
        splits (`str` or `Path`): `{"test": [id, ...], ...}`.
        image_folder (`str` or `Path`, *optional*): Folder with `ID/image.png`.
        split (`str`, *optional*, defaults to `"test"`): Key of `splits`.

    Returns:
        `list[Sample]` in the order of the split. The prompt is `Context: hint` if there is a hint, the question, the
        options `A. ...` and [`OPTION_LETTER`]. The category is the subject.

    Raises:
        ValueError: if a file, the split, a problem, a field or the first image is missing.
    """
    call = f"read_scienceqa('problems.json', 'pid_splits.json', 'images/{split}', split={split!r})"
    source = Source(problems, "It must be ScienceQA's problems.json.", call)
    other = Source(splits, "It must be ScienceQA's pid_splits.json.", call)
    rows, ids = source.json(dict), other.json(dict)
    if split not in ids:
        raise other.error(f"it has no split {split!r}, only {sorted(ids)}")
    samples = []
    (keys,) = other.fields(ids, "the file", **{split: list[str]})
    if not keys:
        raise other.error(f"its split {split!r} is empty")
    for key in keys:
        if key not in rows:
            raise source.error(f"it has no problem {key!r}, which is in {splits}")
        where = f"problem {key!r}"
        kinds = {"question": str, "choices": list[str], "answer": int}
        question, choices, answer = source.fields(rows[key], where, **kinds)
        optional = {"hint": str | None, "image": str | None, "subject": str | None}
        hint, image, subject = source.fields(rows[key], where, **optional)
        if not 0 <= answer < len(choices):
            raise source.error(f"`answer` is {answer}, and there are {len(choices)} choices from 0", where)
        context = f"Context: {hint}\n" if hint else ""
        prompt = f"{context}{question}\n{options_text(choices)}{OPTION_LETTER}"
        path = image_path(image_folder, f"{key}/{image}") if image else None
        letter = chr(ord("A") + answer)
        samples.append(Sample(key, path, prompt, (letter,), tuple(choices), subject or ""))
    return check_images(samples, image_folder, source)


BENCHMARK = Benchmark(
    "scienceqa",
    title="ScienceQA",
    measures="school lessons, multiple choice",
    paper="https://huggingface.co/papers/2209.09513",
    files="problems.json, pid_splits.json, images",
    protocol="letter of the option, over the questions with an image",
    computed_by="LLaVA, lmms-eval",
    read=read_scienceqa,
    metric=ScienceQA,
    max_new_tokens=MAX_NEW_TOKENS_LONG,
)
