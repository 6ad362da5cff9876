"""LLaVA's own question files, of any benchmark, and its files of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_images, image_path, pair_answers, write_lines


def read_llava_questions(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read a question file of LLaVA, of any benchmark. It has no answers, so the samples can only be exported.

    Args:
        questions (`str` or `Path`): Lines `{"question_id", "text"}`, most with `image`, some with `category`.
        image_folder (`str` or `Path`, *optional*): Folder with the images.

    Returns:
        `list[Sample]` in the order of the file. The prompt is `text`, unchanged.

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    call = "read_llava_questions('llava_gqa_testdev_balanced.jsonl', 'images')"
    source = Source(questions, "Each line must be a question of LLaVA.", call)
    samples = []
    for line, row in source.jsonl():
        kinds = {"question_id": int | str, "text": str, "image": str | None, "category": str | None}
        key, text, name, category = source.fields(row, line, **kinds)
        image = image_path(image_folder, name) if name else None
        samples.append(Sample(key, image, text, category=category or ""))
    return check_images(samples, image_folder, source)


def write_answers(
    path: str | Path, samples: Sequence[Sample], answers: Sequence[str], model_id: str, metadata: dict | None = None
) -> None:
    """
    Write LLaVA's answers jsonl, for any benchmark.

    Lines are `{"question_id", "prompt", "text", "answer_id", "model_id", "metadata"}`.
    """
    rows = []
    for sample, answer in pair_answers(samples, answers):
        seed = f"{model_id}\n{sample.question_id}\n{sample.prompt}\n{answer}"
        rows.append(
            {
                "question_id": sample.question_id,
                "prompt": sample.prompt,
                "text": answer,
                "answer_id": hashlib.sha256(seed.encode()).hexdigest()[:22],
                "model_id": model_id,
                "metadata": metadata or {},
            }
        )
    write_lines(path, rows)


def read_answers(path: str | Path, samples: Sequence[Sample]) -> list[str]:
    """
    Read the answer to each of `samples` from LLaVA's answers jsonl, by `question_id` and `prompt`.

    The ids `1` and `"1"` are equal. Answers to other questions are left out.

    Raises:
        ForeignFileError: if a sample has no answer in the file, or two different ones.
    """
    source = Source(
        path, "It must hold an answer to every sample, to the same prompt.", "read_answers('answers.jsonl', samples)"
    )
    texts = {}
    for line, row in source.jsonl():
        key, prompt, text = source.fields(row, line, question_id=int | str, prompt=str, text=str)
        if texts.setdefault((str(key), prompt), text) != text:
            raise source.error(f"it has another answer to {key!r} with the prompt {prompt!r} than a line above", line)
    missing = [sample for sample in samples if (str(sample.question_id), sample.prompt) not in texts]
    if missing:
        raise source.error(
            f"{len(missing)} of {len(samples)} samples have no answer, the first is {missing[0].question_id!r} "
            f"with the prompt {missing[0].prompt!r}"
        )
    return [texts[str(sample.question_id), sample.prompt] for sample in samples]


BENCHMARK = Benchmark(
    "llava",
    title="LLaVA's question files",
    measures="questions of any benchmark",
    files="questions jsonl, images",
    protocol="exported as LLaVA's answers jsonl, not scored",
    read=read_llava_questions,
    write=write_answers,
    submission_suffix=".jsonl",
    short_answers=False,
)
