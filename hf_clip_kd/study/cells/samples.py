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
    "choices": list[str] | None,
    "unit": str | None,
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
    choices: tuple[str, ...] = field(default=(), metadata={"help": "Texts of the options A, B and so on."})
    unit: str | None = field(
        default=None, metadata={"help": "Pair or group that is drawn as one, such as `pair 3`; `None` for the image."}
    )


@dataclass(frozen=True)
class SamplesFile:
    """File of answers, with the result that it belongs to."""

    path: Path = field(metadata={"help": "The `samples/*.jsonl`."})
    record: dict[str, Any] = field(metadata={"help": "Content of the result beside it."})

    @property
    def only_exported(self) -> bool:
        """Answers for a server or a judge: the result has no metric, and no question has a score."""
        return self.record.get("main_metric", "") is None


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
        name, prompt, score, bits, image, answer, references, category, choices, unit = fields(
            row, _KINDS, path, where=f"line {number}", **_WORDS
        )
        texts = answer or "", tuple(references or ()), category or "", tuple(choices or ())
        found[name, prompt] = Answered(score, bits, image, *texts, unit)
    return found


def single_model(path: str | Path) -> dict[str, SamplesFile]:
    """
    Return the files of answers of a single model, by the name of their benchmark.

    Args:
        path (`str` or `Path`):
            The folder of a run whose results have samples, or a `samples/*.jsonl`, whose benchmark is `""`. A file
            without its result has an empty record.

    Raises:
        ValueError: There are no samples, or a folder holds a benchmark twice, of several models or protocols.
        ForeignFileError: A result is no such file.
    """
    path = Path(path)
    if path.is_file():
        beside = samples_files(path.absolute().parents[1])
        return {"": next((found for found in beside if found.path == path.absolute()), SamplesFile(path, {}))}
    found: dict[str, SamplesFile] = {}
    for samples in samples_files(path):
        benchmark = samples.record["dataset"]
        if benchmark in found:
            what = "model" if found[benchmark].record.get("model") != samples.record.get("model") else "task"
            both = [str(file.record.get(what)) for file in (found[benchmark], samples)]
            raise ValueError(
                f"{str(path)!r} holds {benchmark!r} of several {what}s, {both[0]!r} and {both[1]!r}. A single model "
                f"and protocol can be compared with another. Pass a file: `{samples.path}`."
            )
        found[benchmark] = samples
    if not found:
        raise no_answers(path)
    return found


def read_samples(path: str | Path) -> dict[str, dict[Key, Answered]]:
    """
    Read the scores of single questions that an evaluation wrote.

    Args:
        path (`str` or `Path`): See [`single_model`].

    Returns:
        `dict`: benchmark -> (question id, prompt) -> [`Answered`]. A file alone has the benchmark `""`.

    Raises:
        ValueError: See [`single_model`]. Or a question has no score.
        ForeignFileError: A file is no such file.
    """
    return {benchmark: scored_answers(samples.path) for benchmark, samples in single_model(path).items()}


def no_answers(path: str | Path) -> ValueError:
    """Return the error of a folder without answers."""
    return ValueError(
        f"{str(path)!r} holds no answers to questions. It must be a `samples/*.jsonl`, or the folder of a run "
        "with VQA results. Run `recipes/evaluate_vlm.py`, or `recipes/train_vlm.py` with an `evaluation`, first."
    )


def scored_answers(path: Path) -> dict[Key, Answered]:
    """Read a `samples/*.jsonl` as [`read_answers`] does. A question without a score is an error."""
    answers = read_answers(path)
    for (name, _), answered in answers.items():
        if answered.score is None:
            raise ValueError(
                f"{str(path)!r} has no score of question {name!r}, so nothing can be compared. Each question must "
                "have a score. Evaluate a benchmark whose answers are known."
            )
    return answers
