"""SEED-Bench: multiple choice about images, by nine types of question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import (
    OPTION_LETTER,
    Sample,
    Source,
    check_ids,
    check_images,
    image_path,
    options_text,
    pair_answers,
    write_lines,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


class SEEDBench(VQAMetric):
    """
    Multiple choice ([SEED-Bench](https://huggingface.co/papers/2307.16125)), overall and by question type.

    `read_seedbench` keeps the questions about images.

    Protocols:
        llava: the answer is the letter and nothing else.
        lmms_eval: the first character of the answer is the letter, in any case.
    """

    benchmark = "seedbench"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        letters = predictions if protocol == "llava" else [text[:1].upper() for text in predictions]
        answers = [reference["answers"][0] for reference in references]
        scores = np.array([float(letter == answer) for letter, answer in zip(letters, answers, strict=True)])
        return scores, means_by_category(scores, categories_of(references))


def read_seedbench(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read the questions about images of SEED-Bench's `SEED-Bench.json`; leave out those about videos.

    Args:
        questions (`str` or `Path`):
            `{"questions": [{"question_id", "question", "choice_a", ..., "answer", "data_type", "data_id",
            "question_type_id"}], "question_type": {name: id}}`.
        image_folder (`str` or `Path`, *optional*):
            Folder with the images.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the question, the options and [`OPTION_LETTER`]; the
        category is the name of the question type.

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    call = "read_seedbench('SEED-Bench.json', 'SEED-Bench-image')"
    source = Source(questions, "It must be SEED-Bench's JSON.", call)
    rows, types = source.fields(source.json(dict), "the file", questions=list, question_type=dict)
    type_names = {str(number): name for name, number in types.items()}
    samples = []
    for i, row in enumerate(rows):
        where = f"question {i}"
        kinds = dict.fromkeys(("question_id", "question", "answer", "data_type", "data_id", "question_type_id"), str)
        kinds["question_id"] = int | str
        key, question, answer, data_type, image, kind = source.fields(row, where, **kinds)
        if data_type != "image":
            continue
        choices = source.fields(row, where, **dict.fromkeys(("choice_a", "choice_b", "choice_c", "choice_d"), str))
        answer = answer.strip().upper()
        if answer not in ("A", "B", "C", "D"):
            raise source.error(f"`answer` is {answer!r}, not the letter of a choice", where)
        prompt = f"{question}\n{options_text(choices)}{OPTION_LETTER}"
        category = type_names.get(kind, kind)
        path = image_path(image_folder, image)
        samples.append(Sample(key, path, prompt, (answer,), tuple(choices), category))
    return check_images(check_ids(samples, source), image_folder, source)


def write_seedbench(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Write lines `{"question_id", "prediction"}` for SEED-Bench's leaderboard."""
    pairs = pair_answers(samples, answers)
    write_lines(path, [{"question_id": sample.question_id, "prediction": answer} for sample, answer in pairs])


BENCHMARK = Benchmark(
    "seedbench",
    title="SEED-Bench",
    measures="scenes and objects in images, multiple choice",
    paper="https://huggingface.co/papers/2307.16125",
    files="SEED-Bench.json, images",
    protocol="letter of the option",
    computed_by="LLaVA, lmms-eval",
    read=read_seedbench,
    metric=SEEDBench,
    write=write_seedbench,
    submission_suffix=".jsonl",
)
