"""MMMU: college questions of many subjects, most of them multiple choice."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import MAX_NEW_TOKENS_LONG, Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import options_by_letter
from hf_clip_kd.evaluation.vqa.benchmarks.mmmu_parsing import open_is_correct, read_choice
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import (
    OPTION_LETTER,
    SHORT_ANSWER,
    Sample,
    Source,
    check_ids,
    check_images,
    image_path,
    options_text,
    pair_answers,
    write_json,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_row
from hf_clip_kd.recipe_io.results import write_whole


class MMMU(VQAMetric):
    """
    College questions ([MMMU](https://huggingface.co/papers/2311.16502)): accuracy overall and by subject.

    A question without choices is open. An answer that names no option gets a random one, as in the official script.
    Here the draw depends only on `seed` and the question's position. So a score can be repeated, and no answer changes
    the luck of another.

    Protocols: the way to read a letter, see `mmmu_parsing.read_choice`. With llava an open answer may have several
    meanings, and one must be right. The protocol lmms_eval compares the characters of one meaning, chosen by
    the order of a set. That cannot be repeated, so open questions always follow llava.
    """

    benchmark = "mmmu"
    reference_fields = ("answers", "choices", "category")

    def judge(self, predictions, references, protocol, seed):
        scores = []
        for position, (text, reference) in enumerate(zip(predictions, references, strict=True)):
            if reference["choices"]:
                rng = random.Random(f"{seed}/{position}")
                scores.append(read_choice(text, reference["choices"], rng, protocol) in reference["answers"])
            else:
                scores.append(open_is_correct(text, reference["answers"]))
        scores = np.array(scores, dtype=float)
        return scores, means_by_category(scores, categories_of(references))


def read_mmmu(
    questions: str | Path, image_folder: str | Path, answers: str | Path | None = None, protocol: str = "llava"
) -> list[Sample]:
    """
    Read MMMU's validation split, from its parquet files or from the JSON made of them for LLaVA.

    Args:
        questions (`str` or `Path`):
            A parquet file (`id`, `question`, `options`, `answer`, `question_type`, `image_1`, ...), a folder of them,
            or `anns_for_eval.json` (`[{"id", "prompt", "question_type", "all_choices", "index2ans", "image"}]`).
        image_folder (`str` or `Path`):
            Folder with the images of the JSON. Images of a parquet file are written there: `image_1` as `ID.png`,
            others under a hash of their content.
        answers (`str` or `Path`, *optional*):
            `answer_dict_val.json` (`{id: {"ground_truth"}}`). Scores of the JSON need it.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` writes options as `(A) red`, `"lmms_eval"` as `A. red`. Of several images of a question,
            `"llava"` shows `image_1` alone, as the official script does for LLaVA-1.5. `"lmms_eval"` puts all that
            the question names side by side, see [`joined`]. The tool itself shows them to a model apart. The JSON has
            its own prompts and images.

    Returns:
        `list[Sample]` with the subject as category. A question of the JSON without an image is one about several. It
        has `image=None`, and no model is asked. It gets a random letter, as an empty answer does.

    Raises:
        ValueError: if a file, a field, an answer or the first image is missing.
    """
    call = "read_mmmu('anns_for_eval.json', 'all_images', 'answer_dict_val.json')"
    if Path(questions).suffix == ".json":
        return _read_mmmu_json(questions, image_folder, answers, call)
    return _read_mmmu_parquet(questions, image_folder, protocol, call)


def _read_mmmu_parquet(questions: str | Path, image_folder: str | Path, protocol: str, call: str) -> list[Sample]:
    whole = Source(questions, "It must be MMMU's parquet files or anns_for_eval.json.", call)
    form = "({letter}) {text}" if protocol == "llava" else "{letter}. {text}"
    samples = []
    for source, where, row in parquet_rows(whole, "validation*.parquet"):
        kinds = {"id": str, "question": str, "options": str | list, "answer": str | list, "question_type": str}
        key, question, options, answer, kind = source.fields(row, where, **kinds)
        if Path(key).name != key:
            raise source.error(f"`id` is {key!r}, which cannot name the file of an image", where)
        choices = _options(source, options, where) if kind == "multiple-choice" else ()
        if choices:
            prompt = f"{question}\n{options_text(choices, form)}\n{OPTION_LETTER}"
        else:
            prompt = question + ("" if protocol == "llava" else "\n") + SHORT_ANSWER
        named = sorted(set(re.findall(r"<image (\d+)>", f"{question}{choices}"))) if protocol == "lmms_eval" else []
        columns = [f"image_{number}" for number in named] or ["image_1"]
        if columns == ["image_1"]:
            image = _first_image(source, row, Path(image_folder) / f"{key}.png", where)
        else:
            image = stored_row(source, row, columns, image_folder, where)
        accepted = _accepted(source, answer, choices, where)
        samples.append(Sample(key, image, prompt, accepted, choices, _subject(key)))
    return check_images(check_ids(samples, whole), None, whole)


def _first_image(source: Source, row: dict, path: Path, where: str) -> str | None:
    """Write `image_1` of a row to `path`, unless a file is there, and return the path. A row may have none."""
    if not row.get("image_1"):
        return None
    if not path.is_file():
        write_whole(path, picture_bytes(source, row, "image_1", where))
    return str(path)


def _read_mmmu_json(questions, image_folder, answers, call) -> list[Sample]:
    source = Source(questions, "It must be MMMU's anns_for_eval.json.", call)
    truth = {}
    if answers is not None:
        other = Source(answers, "It must be MMMU's answer_dict_val.json.", call)
        truth = other.json(dict)
    samples = []
    for i, row in enumerate(source.json(list)):
        kinds = {"id": str, "prompt": str, "question_type": str, "image": str | None}
        key, prompt, kind, name = source.fields(row, f"question {i}", **kinds)
        where, choices = f"question {key!r}", ()
        if kind == "multiple-choice":
            letters, texts = source.fields(row, where, all_choices=list[str], index2ans=dict)
            choices = tuple(source.fields(texts, where, **dict.fromkeys(letters, str)))
        accepted = ()
        if answers is not None:
            if key not in truth:
                raise other.error(f"it has no answer to {key!r} of {questions}")
            where = f"answer {key!r}"
            accepted = _accepted(other, *other.fields(truth[key], where, ground_truth=str | list), choices, where)
        image = image_path(image_folder, name) if name else None
        samples.append(Sample(key, image, prompt, accepted, choices, _subject(key)))
    return check_images(check_ids(samples, source), image_folder, source)


def _literal(text: str | list) -> str | list:
    """Read a list that is written as Python's `['a', 'b']`; other texts stay."""
    if isinstance(text, str) and text.startswith("[") and text.endswith("]"):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return text


def _options(source: Source, options: str | list, where: str) -> tuple[str, ...]:
    return tuple(source.fields({"options": _literal(options)}, where, options=list[str])[0])


def _accepted(source: Source, answer: str | list, choices: Sequence[str], where: str) -> tuple[str, ...]:
    """Return one answer or several; the parquet files write several as `['a', 'b']`."""
    answer = _literal(answer)
    if not isinstance(answer, list):
        answer = [answer]
    accepted = tuple(source.fields({"answer": answer}, where, answer=list[str])[0])
    letters = list(options_by_letter(choices))
    if choices and not set(accepted) <= set(letters):
        raise source.error(f"the answer {accepted} is no letter of {letters}", where)
    return accepted


def _subject(key: str) -> str:
    """Return the subject in an id: `validation_Art_Theory_12` -> `Art_Theory`."""
    return "_".join(key.split("_")[1:-1])


def write_mmmu(path: str | Path, samples: Sequence[Sample], answers: Sequence[str], seed: int = 0) -> None:
    """Write `{id: answer}` for MMMU's `main_eval_only.py`: the letter that [`MMMU`] reads with `seed`, or the text."""
    content = {}
    for position, (sample, answer) in enumerate(pair_answers(samples, answers)):
        if sample.choices:
            answer = read_choice(answer.strip(), sample.choices, random.Random(f"{seed}/{position}"))
        content[sample.question_id] = answer
    write_json(path, content)


BENCHMARK = Benchmark(
    "mmmu",
    title="MMMU",
    measures="college questions of thirty subjects",
    paper="https://huggingface.co/papers/2311.16502",
    files="parquet files, or anns_for_eval.json with answer_dict_val.json and images",
    protocol="letter of the option, or meaning of an open answer",
    computed_by="MMMU's script, TinyLLaVA, lmms-eval",
    read=read_mmmu,
    metric=MMMU,
    write=write_mmmu,
    max_new_tokens=MAX_NEW_TOKENS_LONG,
    needs_image=True,
)
