"""Answers of a run in `samples/*.jsonl`, and what a later run of the same weights takes from there."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...recipe_io.file_state import file_state
from ...recipe_io.foreign import read_json
from ...recipe_io.results import write_whole

if TYPE_CHECKING:
    from .evaluator import LoadedBenchmark

logger = logging.getLogger(__name__)

# The answers do not depend on these options.
_NOT_ASKED = ("protocol", "batch_size", "likelihood")


@dataclass(frozen=True)
class StoredAnswers:
    """
    Answers that an earlier run left.

    Attributes:
        answers (`list[str]`, *optional*): Answer to each question; `None` if there are none.
        bits (`list[float | None]`, *optional*): Likelihood of each; `None` if it was not measured, or otherwise.
    """

    answers: list[str] | None = None
    bits: list[float | None] | None = None


def answers_key(entry: LoadedBenchmark, weights: str) -> str:
    """
    Hash all that the answers depend on, except the arithmetic: weights, questions, images, longest answer.

    An image counts by its path, and by its file's size and time of change.
    """
    questions = [
        (sample.question_id, sample.prompt, file_state(sample.image) if isinstance(sample.image, str) else None)
        for sample in entry.samples
    ]
    options = {option: value for option, value in entry.options.items() if option not in _NOT_ASKED}
    return _checksum(json.dumps([weights, entry.max_new_tokens, options, questions], sort_keys=True))


def read_stored(path: Path | None, key: str | None, entry: LoadedBenchmark) -> StoredAnswers:
    """Read what an earlier run with this key left beside its result. Bits must be of the same accepted answers."""
    if key is None or path is None or not path.is_file() or not _samples_path(path).is_file():
        return StoredAnswers()
    record = read_json(path, allowed="It must be a result of an earlier run.", fix="Delete it.")
    text = _samples_path(path).read_text(encoding="utf-8")
    if (record.get("answers_key"), record.get("samples_checksum")) != (key, _checksum(text)):
        return StoredAnswers()
    logger.info("%s: the answers of an earlier run are taken from %s", entry.name, _samples_path(path))
    rows = [json.loads(line) for line in text.splitlines()]
    # Results of old versions have no bits.
    how = {name: value for name, value in record.get("likelihood", {}).items() if name in ("answers", "length")}
    same = entry.likelihood is not None and how == asdict(entry.likelihood)
    # The key knows the questions alone. A corrected answer is scored anew, so its bits are, too.
    pairs = zip(rows, entry.samples, strict=True)
    same = same and all(row["references"] == list(sample.answers) for row, sample in pairs)
    return StoredAnswers([row["answer"] for row in rows], [row["bits"] for row in rows] if same else None)


def write_samples(path: Path, entry: LoadedBenchmark, answers: list[str], result: dict) -> str:
    """Write one line per question beside the result at `path`, and return a checksum of the file."""
    nothing = [None] * len(answers)
    columns = (entry.samples, answers, result.get("scores", nothing), result.get("bits", nothing), _units(entry))
    lines = [
        json.dumps(
            {
                "question_id": sample.question_id,
                "image": sample.picture,
                "prompt": sample.prompt,
                "answer": answer,
                "references": sample.answers,
                "choices": sample.choices,
                "score": score,
                "bits": bits,
                "category": sample.category,
                "unit": unit,
            }
        )
        for sample, answer, score, bits, unit in zip(*columns, strict=True)
    ]
    text = "".join(f"{line}\n" for line in lines)
    write_whole(_samples_path(path), text)
    return _checksum(text)


def _units(entry: LoadedBenchmark) -> list[str | None]:
    """Return the pair or group that the bootstrap draws each question with; `None` where it draws images."""
    metric = entry.metric
    if metric is None or metric.unit == "image":
        return [None] * len(entry.samples)
    pictures = [sample.picture for sample in entry.samples]
    return [f"{metric.unit} {number}" for number in metric.units(metric.references(entry.samples), pictures)]


def _samples_path(path: Path) -> Path:
    return path.parent / "samples" / f"{path.stem}.jsonl"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
