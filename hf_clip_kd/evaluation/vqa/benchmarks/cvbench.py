"""CV-Bench: counting, places and depth in photographs, multiple choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import cambrian_letter, first_letter, lmms_note, right_choice
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category, weighted_mean
from hf_clip_kd.evaluation.vqa.files import OPTION_LETTER, Sample, Source, check_ids, check_images
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture

SOURCES_2D = ("ADE20K", "COCO")
SOURCE_3D = "Omni3D"


class CVBench(VQAMetric):
    """
    Multiple choice about 2D and 3D ([Cambrian-1](https://huggingface.co/papers/2406.16860)).

    `2d` is the mean of the accuracies on images of ADE20K and of COCO, `3d` that on Omni3D. `combined` is the mean of
    both, and the number that papers quote. Each needs all of its sources.
    `accuracy` is over all questions, as lmms-eval reports it. Categories are `SOURCE/TASK`.

    Protocols:
        llava: the letter as [`cambrian_letter`] reads it, behind "answer is" if that is there (the authors' script).
        lmms_eval: the letter as [`first_letter`] reads it.
    """

    benchmark = "cvbench"
    reference_fields = ("answers", "category")
    main_metric = "combined"

    def judge(self, predictions, references, protocol, seed):
        letters = [cambrian_letter(text, ".") if protocol == "llava" else first_letter(text) for text in predictions]
        pairs = zip(letters, references, strict=True)
        scores = np.array([float(letter == reference["answers"][0]) for letter, reference in pairs])
        categories = categories_of(references)
        sources = np.array([category.split("/")[0] for category in categories])
        here = {name: sources == name for name in (*SOURCES_2D, SOURCE_3D) if name in sources}
        by_category = means_by_category(scores, categories)

        def summary(weights):
            metrics = by_category(weights)
            found = {name: weighted_mean(scores[chosen], weights[chosen]) for name, chosen in here.items()}
            if set(SOURCES_2D) <= set(found):
                metrics["2d"] = sum(found[name] for name in SOURCES_2D) / len(SOURCES_2D)
            if SOURCE_3D in found:
                metrics["3d"] = found[SOURCE_3D]
            if {"2d", "3d"} <= set(metrics):
                metrics["combined"] = (metrics["2d"] + metrics["3d"]) / 2
            return metrics

        return scores, summary


def read_cvbench(questions: str | Path, image_folder: str | Path, protocol: str = "llava") -> list[Sample]:
    """
    Read CV-Bench's `test_2d.parquet` and `test_3d.parquet`.

    Args:
        questions (`str` or `Path`):
            A file or the folder of both, with `idx`, `image`, `prompt`, `choices`, `answer` such as `(A)`, `source`
            and `task`. The prompt has the options.
        image_folder (`str` or `Path`):
            Folder to which the images are written.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` puts [`OPTION_LETTER`] behind the prompt, `"lmms_eval"` its own sentence in front.

    Returns:
        `list[Sample]` in the order of the files. The category is `SOURCE/TASK`, such as `COCO/Count`.

    Raises:
        ValueError: if a file, a field or an image is missing.
    """
    call = "read_cvbench('CV-Bench', 'images')"
    whole = Source(questions, "It must be CV-Bench's test_2d.parquet or test_3d.parquet, or the folder of both.", call)
    samples = []
    for source, where, row in parquet_rows(whole, "test_*d.parquet"):
        kinds = {"idx": int | str, "prompt": str, "choices": list[str], "answer": str, "source": str, "task": str}
        key, prompt, choices, answer, origin, task = source.fields(row, where, **kinds)
        letter, letters = right_choice(source, where, answer, choices)
        if protocol == "lmms_eval":
            prompt = f"{lmms_note(letters)}\n\n{prompt}"
        else:
            prompt += OPTION_LETTER
        image = stored_picture(picture_bytes(source, row, "image", where), image_folder)
        samples.append(Sample(key, image, prompt, (letter,), tuple(choices), f"{origin}/{task}"))
    return check_images(check_ids(samples, whole), None, whole)


BENCHMARK = Benchmark(
    "cvbench",
    title="CV-Bench",
    measures="numbers, places, depth and distances in photographs",
    paper="https://huggingface.co/papers/2406.16860",
    files="folder with test_2d.parquet and test_3d.parquet",
    protocol="letter of the option, mean of 2D (ADE20K and COCO) and 3D",
    computed_by="the authors (Cambrian-1), lmms-eval",
    read=read_cvbench,
    metric=CVBench,
)
