"""Answers to single questions that evaluations leave in `samples/*.jsonl` beside their results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...recipe_io.foreign import fields, read_json_lines
from ...recipe_io.results import load_results, result_path

# Question id and prompt. Some benchmarks name the image as the id, so the id alone is not enough.
Key = tuple[str, str]

_WORDS = {
    "allowed": "A line is a question as `evaluate_vlm.py` writes it to `samples/`.",
    "fix": "Evaluate the model again.",
}
_KINDS = {
    "question_id": str,
    "prompt": str,
    "score": float | None,
    "bits": float | None,
    "image": str | None,
    "answer": str | None,
    "references": list[str] | None,
    "category": str | None,
}


@dataclass(frozen=True)
class Answered:
    """Outcome of a model in a question."""

    score: float | None = field(metadata={"help": "Its score, mostly 0 or 1; `None` if no answer is known."})
    bits: float | None = field(metadata={"help": "Bits of the accepted answer, if they were measured."})
    image: str | None = field(metadata={"help": "Name of the question's image, if it is known."})
    answer: str = field(default="", metadata={"help": "The model's answer."})
    references: tuple[str, ...] = field(default=(), metadata={"help": "Accepted answers."})
    category: str = field(default="", metadata={"help": "Type of the question."})


@dataclass(frozen=True)
class SamplesFile:
    """File of answers, with the result that it belongs to."""

    path: Path = field(metadata={"help": "The `samples/*.jsonl`."})
    record: dict[str, Any] = field(metadata={"help": "Content of the result beside it."})


def samples_files(folder: str | Path) -> list[SamplesFile]:
    """
    List the files of answers in the folder of a run, or in a folder of results, by file name.

    Raises:
        ForeignFileError: A JSON among the results is no result.
    """
    found = []
    for place in (Path(folder), Path(folder) / "results"):
        if (place / "samples").is_dir():  # The folder of a run has JSONs that are no results.
            for record in load_results(place):
                parts = {name: record.get(name) or "" for name in ("dataset", "model", "task", "pretrained")}
                path = place / "samples" / f"{result_path(place, **parts).stem}.jsonl"
                if path.is_file():
                    found.append(SamplesFile(path, record))
    return found


def read_answers(path: str | Path) -> dict[Key, Answered]:
    """
    Read a `samples/*.jsonl`.

    Raises:
        ForeignFileError: It is no such file.
    """
    found = {}
    for number, row in read_json_lines(path, **_WORDS):
        name, prompt, score, bits, image, answer, references, category = fields(
            row, _KINDS, path, where=f"line {number}", **_WORDS
        )
        found[name, prompt] = Answered(score, bits, image, answer or "", tuple(references or ()), category or "")
    return found


def read_samples(path: str | Path) -> dict[str, dict[Key, Answered]]:
    """
    Read the scores of single questions that an evaluation wrote.

    Args:
        path (`str` or `Path`): A `samples/*.jsonl`, or the folder of a run whose results have them.

    Returns:
        `dict`: benchmark -> (question id, prompt) -> [`Answered`]. A file alone has the benchmark `""`.

    Raises:
        ValueError: There are no samples, a question has no score, or a folder holds several models.
        ForeignFileError: A file is no such file.
    """
    path = Path(path)
    if path.is_file():
        return {"": _scored(path)}
    found = {}
    for samples in samples_files(path):
        benchmark = samples.record["dataset"]
        if benchmark in found:
            raise ValueError(
                f"{str(path)!r} holds {benchmark!r} of several models. Two models are compared, so each must be "
                f"named. Pass a file of each: `{samples.path}`."
            )
        found[benchmark] = _scored(samples.path)
    if not found:
        raise no_answers(path)
    return found


def no_answers(path: str | Path) -> ValueError:
    """Return the error of a folder without answers."""
    return ValueError(
        f"{str(path)!r} holds no answers to questions. It must be a `samples/*.jsonl`, or the folder of a run "
        "with VQA results. Run `recipes/evaluate_vlm.py`, or `recipes/train_vlm.py` with an `evaluation`, first."
    )


def _scored(path: Path) -> dict[Key, Answered]:
    answers = read_answers(path)
    for (name, _), answered in answers.items():
        if answered.score is None:
            raise ValueError(
                f"{str(path)!r} has no score of question {name!r}, so nothing can be compared. Each question must "
                "have a score. Evaluate a benchmark whose answers are known."
            )
    return answers
