"""Answers of several models to the same questions, brought together by question."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cells.samples import Answered, Key, SamplesFile, no_answers, read_answers, samples_files


@dataclass(frozen=True)
class Run:
    """Answers of a model."""

    name: str = field(metadata={"help": "Shortest end of the model's path that no other run has."})
    answers: dict[str, dict[Key, Answered]] = field(metadata={"help": "Benchmark -> question -> answer."})
    records: dict[str, dict[str, Any]] = field(metadata={"help": "Benchmark -> content of the result."})


@dataclass(frozen=True)
class Question:
    """Question of a benchmark, with what each run answered."""

    benchmark: str = field(metadata={"help": "Name of the benchmark, with the protocol if it is not LLaVA's."})
    name: str = field(metadata={"help": "Id of the question."})
    prompt: str = field(metadata={"help": "Text that the models were asked."})
    answers: tuple[Answered | None, ...] = field(
        metadata={"help": "Answer of each run, in their order; `None` if it was not asked."}
    )

    @property
    def first(self) -> Answered:
        """Answer of the first run that was asked. All share its image, its references and its category."""
        return next(answered for answered in self.answers if answered is not None)


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """
    Read the answers in the folders of runs.

    Args:
        folders (sequence of `str` or `Path`):
            Folders of runs, or folders of results. A folder with the answers of several models gives a run for each.

    Returns:
        `list[Run]` in the order of the folders.

    Raises:
        ValueError: A folder holds no answers, or is named twice.
        ForeignFileError: A file is no such file.
    """
    found: dict[tuple[Path, str], list[SamplesFile]] = {}
    seen: set[Path] = set()
    for folder in map(Path, folders):
        files = samples_files(folder)
        if not files:
            raise no_answers(folder)
        place, paths = folder.absolute(), {samples.path.resolve() for samples in files}
        if paths & seen:
            raise ValueError(
                f"{str(folder)!r} is named twice. Each model can be shown a single time. Name each folder once."
            )
        seen |= paths
        for samples in files:
            found.setdefault((place, str(samples.record.get("model"))), []).append(samples)
    return [_run(name, files) for name, files in zip(_names(list(found)), found.values(), strict=True)]


def questions_of(runs: Sequence[Run]) -> list[Question]:
    """Return each question that at least a run was asked, benchmark by benchmark, in the order of the files."""
    benchmarks = dict.fromkeys(benchmark for run in runs for benchmark in run.answers)
    questions = []
    for benchmark in benchmarks:
        asked = [run.answers.get(benchmark, {}) for run in runs]
        for key in dict.fromkeys(key for answers in asked for key in answers):
            questions.append(Question(benchmark, *key, tuple(answers.get(key) for answers in asked)))
    return questions


def drawn(questions: list[Question], most: int) -> list[Question]:
    """
    Return at most so many questions, in their order. They are a random sample that is the same each time.

    A pair or group is drawn as one.
    """
    if len(questions) <= most:
        return questions
    units: dict[tuple[str, Any], list[int]] = {}
    for position, question in enumerate(questions):
        units.setdefault((question.benchmark, question.first.unit or position), []).append(position)
    chosen: list[int] = []
    for unit in random.Random(0).sample([*units.values()], len(units)):
        chosen += unit if len(chosen) + len(unit) <= most else []
    return [questions[position] for position in sorted(chosen)]


def _run(name: str, files: list[SamplesFile]) -> Run:
    by_benchmark = {_benchmark(samples.record): samples for samples in files}
    return Run(
        name,
        {benchmark: read_answers(samples.path) for benchmark, samples in by_benchmark.items()},
        {benchmark: samples.record for benchmark, samples in by_benchmark.items()},
    )


def _benchmark(record: dict[str, Any]) -> str:
    task, _, protocol = record["task"].partition("_")
    return f"{record['dataset']}, {protocol}" if task == "vqa" and protocol != "llava" else record["dataset"]


def _names(models: list[tuple[Path, str]]) -> list[str]:
    """Return the shortest end of each model's path that no other has; equal ones have their folder's before it."""
    paths = [Path(model).parts for _, model in models]
    if len(set(paths)) < len(paths):
        paths = [(*folder.parts, *parts) for (folder, _), parts in zip(models, paths, strict=True)]
    names = []
    for parts in paths:
        others = [other for other in paths if other != parts]
        sizes = (size for size in range(1, len(parts)) if all(other[-size:] != parts[-size:] for other in others))
        names.append("/".join(parts[-next(sizes, len(parts)) :]))
    return names
