"""MMStar: multiple choice that cannot be answered without the image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import lmms_letter
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category, weighted_mean
from hf_clip_kd.evaluation.vqa.files import OPTION_LETTER, Sample, Source, check_ids, check_images
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture

_START = re.compile(r"(?:\(|option |the answer is )?(.)", re.DOTALL)


def starting_letter(text: str) -> str:
    """
    Read the letter as the authors' script does; `""` if there is no text.

    It is the first character in any case, or the character behind "(", "Option " or "The answer is ". So "Blue" names
    B, and "The answer is blue" does.
    """
    found = _START.match(text.lower().replace("\n", " "))
    return found[1].upper() if found else ""


class MMStar(VQAMetric):
    """
    Multiple choice ([MMStar](https://huggingface.co/papers/2403.20330)), overall, by six abilities and by eighteen.

    Categories are `ABILITY/KIND`, such as `math/geometry`. An ability has a number of its own (`math/accuracy`).

    Protocols:
        llava: the letter as [`starting_letter`] reads it (the authors' script). Means are over questions.
        lmms_eval: the letter as [`lmms_letter`] reads it. Overall and by ability it is the mean over the kinds.
    """

    benchmark = "mmstar"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        read = starting_letter if protocol == "llava" else lmms_letter
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(read(text) == reference["answers"][0]) for text, reference in pairs])
        categories = categories_of(references)
        by_kind = means_by_category(scores, categories)
        parts = {"accuracy": sorted(set(categories) - {""})}
        for ability in sorted({kind.split("/")[0] for kind in parts["accuracy"] if "/" in kind}):
            parts[f"{ability}/accuracy"] = [kind for kind in parts["accuracy"] if kind.startswith(f"{ability}/")]
        members = {name: np.isin(categories, kinds) for name, kinds in parts.items() if name != "accuracy"}

        def summary(weights):
            metrics = by_kind(weights)
            if protocol == "llava":
                return metrics | {name: weighted_mean(scores[here], weights[here]) for name, here in members.items()}
            means = {name: [metrics[f"{kind}/accuracy"] for kind in kinds] for name, kinds in parts.items() if kinds}
            return metrics | {name: sum(values) / len(values) for name, values in means.items()}

        return scores, summary


def read_mmstar(questions: str | Path, image_folder: str | Path, protocol: str = "llava") -> list[Sample]:
    """
    Read MMStar's `mmstar.parquet`.

    Args:
        questions (`str` or `Path`):
            The file or its folder, with `index`, `question` and its options in a text, `image`, `answer`, `category`
            and `l2_category`.
        image_folder (`str` or `Path`):
            Folder to which the images are written.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` puts [`OPTION_LETTER`] behind the question, `"lmms_eval"` the same without its period.

    Returns:
        `list[Sample]` in the order of the file. The category is `CATEGORY/L2_CATEGORY`.

    Raises:
        ValueError: if the file, a field or an image is missing.
    """
    whole = Source(questions, "It must be MMStar's parquet file.", "read_mmstar('mmstar.parquet', 'images')")
    ending = OPTION_LETTER if protocol == "llava" else OPTION_LETTER.rstrip(".")
    samples = []
    for source, where, row in parquet_rows(whole, "*.parquet"):
        kinds = {"index": int | str, "question": str, "answer": str, "category": str, "l2_category": str}
        key, question, answer, ability, kind = source.fields(row, where, **kinds)
        letter = answer.strip().upper()
        if letter not in ("A", "B", "C", "D"):
            raise source.error(f"`answer` is {answer!r}, not the letter of an option", where)
        image = stored_picture(picture_bytes(source, row, "image", where), image_folder)
        samples.append(Sample(key, image, question.strip() + ending, (letter,), category=f"{ability}/{kind}"))
    return check_images(check_ids(samples, whole), None, whole)


BENCHMARK = Benchmark(
    "mmstar",
    title="MMStar",
    measures="questions that need the image, in six abilities",
    paper="https://huggingface.co/papers/2403.20330",
    files="mmstar.parquet",
    protocol="letter of the option; llava: over all questions, lmms_eval: mean over eighteen kinds",
    computed_by="the authors, lmms-eval",
    read=read_mmstar,
    metric=MMStar,
)
