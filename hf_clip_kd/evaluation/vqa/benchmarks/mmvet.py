"""MM-Vet: open questions that need several capabilities at once, scored by a judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_clip_kd.evaluation.vqa.benchmarks.base import MAX_NEW_TOKENS_LONG, Benchmark
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_images, image_path, pair_answers, write_json


def read_mmvet(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read MM-Vet's `mm-vet.json`.

    Args:
        questions (`str` or `Path`): `{"v1_0": {"imagename", "question", "answer", "capability"}}`.
        image_folder (`str` or `Path`, *optional*): Folder with the images.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the bare question, the category its capabilities.

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    source = Source(questions, "It must be MM-Vet's JSON.", "read_mmvet('mm-vet.json', 'images')")
    samples = []
    for key, row in source.json(dict).items():
        kinds = {"imagename": str, "question": str, "answer": str | None, "capability": list[str] | None}
        image, question, answer, capability = source.fields(row, f"question {key!r}", **kinds)
        answers = () if answer is None else (answer,)
        kind = ",".join(capability or ())
        samples.append(Sample(key, image_path(image_folder, image), question, answers, category=kind))
    return check_images(samples, image_folder, source)


def write_mmvet(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Write `{"v1_0": text}` for MM-Vet's judge."""
    content = {}
    for sample, answer in pair_answers(samples, answers):
        key = str(sample.question_id)
        content[key if key.startswith("v1_") else f"v1_{key}"] = answer
    write_json(path, content)


BENCHMARK = Benchmark(
    "mmvet",
    title="MM-Vet",
    measures="several capabilities at once, in free text",
    paper="https://huggingface.co/papers/2308.02490",
    files="mm-vet.json, images",
    protocol="exported for its paid judge, not scored",
    computed_by="MM-Vet's judge",
    read=read_mmvet,
    write=write_mmvet,
    max_new_tokens=MAX_NEW_TOKENS_LONG,
    short_answers=False,
)
