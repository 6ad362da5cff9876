"""Result files: numbers with the config that made them, in the shape that CLIP_benchmark's tools read."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .foreign import fields, read_json, read_json_lines
from .format_version import check_version, stamped

logger = logging.getLogger(__name__)

_WRITTEN = {
    "allowed": "It must be as this package wrote it.",
    "fix": "Restore it, or make it anew with the recipe that writes it.",
}
# Files that a run leaves in its folder.
METRICS_NAME = "metrics.jsonl"
COST_NAME = "cost.json"
# Ending of the number that papers quote of a benchmark, where a cell of a study has several benchmarks.
MAIN = "/main"
# Name of the likelihood of accepted answers among the metrics of a benchmark. Fewer bits are better.
BITS = "answer_bits"


def save_results(
    folder: str | Path,
    *,
    dataset: str,
    model: str,
    task: str,
    metrics: dict[str, float],
    config: dict,
    pretrained: str = "",
    details: dict | None = None,
    counts: Mapping[str, int] | None = None,
) -> Path:
    """
    Write one result as JSON, whole or not at all.

    Args:
        folder (`str` or `Path`): Output folder, created if missing.
        dataset (`str`): Name of the data.
        model (`str`): Folder, Hub id, or open_clip architecture.
        task (`str`): `"zeroshot_classification"`, `"zeroshot_retrieval"` or `"vqa_PROTOCOL"`.
        metrics (`dict[str, float]`): Finite numbers.
        config (`dict`): Every argument that the numbers depend on.
        pretrained (`str`, *optional*, defaults to `""`): open_clip's tag of the weights.
        details (`dict`, *optional*): Other entries of the file about the numbers, such as their intervals.
        counts (`Mapping[str, int]`, *optional*): Numbers of what was scored, such as `n_images`; entries, too.

    Returns:
        `Path`: See [`result_path`]. A result of the same name is replaced.

    Raises:
        ValueError: A metric is not finite, which JSON cannot hold, or a count is 0.
    """
    counts = counts or {}
    check_counts(f"{task} of {model!r} on {dataset!r}", counts, dict.fromkeys(counts, 1))
    wrong = {metric: value for metric, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        raise ValueError(
            f"{task} of {model!r} on {dataset!r} has metrics that are not JSON compliant: {wrong}. A result "
            "holds finite numbers only, so none is written. Look at the number of rows and at the model's outputs."
        )
    path = result_path(folder, dataset=dataset, model=model, pretrained=pretrained, task=task)
    record = {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": task,
        "metrics": metrics,
        "language": "en",
        "config": config,
    } | dict(counts, **(details or {}))
    write_whole(path, json.dumps(stamped(record, "result"), indent=2, allow_nan=False) + "\n")
    return path


def check_counts(name: str, counts: Mapping[str, int], least: Mapping[str, int]) -> None:
    """
    Refuse a score of too little: of nothing, or of one candidate alone, which is always right.

    Args:
        name (`str`): Name of the evaluation, for the message.
        counts (`Mapping[str, int]`): Numbers of what is scored: `n_images`, `n_classes`, `n_texts`, `n_samples`.
        least (`Mapping[str, int]`): The smallest number of each that makes a score.

    Raises:
        ValueError: A number is smaller.
    """
    for kind, number in least.items():
        if counts.get(kind, number) < number:
            what = kind.removeprefix("n_").replace("_", " ")
            raise ValueError(
                f"{name} would score {counts[kind]} {what}, so its numbers would say nothing. There must be at least "
                f"{number}. Check the data, its `split`, `max_samples` and columns, or leave this evaluation out."
            )


def check_answers(name: str, answers: Sequence[str]) -> None:
    """
    Refuse answers of a model that are no answers, and warn of those that look like it.

    Args:
        name (`str`): Name of the benchmark or file, for the message.
        answers (`Sequence[str]`): One answer for each question that was asked.

    Raises:
        ValueError: There is none, or all are empty.
    """
    check_counts(name, {"n_answers": len(answers)}, {"n_answers": 1})
    texts = [answer.strip() for answer in answers]
    if not any(texts):
        raise ValueError(
            f"All {len(texts)} answers to {name} are empty, so their score would say nothing. At least one must have "
            "text. Look at the chat template and its stop token, at `max_new_tokens`, and at the ids of the "
            "questions. A model that was hardly trained may also stop at once."
        )
    if not all(texts):
        logger.warning("%d of %d answers to %s are empty.", texts.count(""), len(texts), name)
    if len(texts) > 1 and len(set(texts)) == 1:
        logger.warning(
            "All %d answers to %s are %r. Does the model see its images and read its questions?",
            len(texts),
            name,
            texts[0][:40],
        )


def result_path(folder: str | Path, *, dataset: str, model: str, task: str, pretrained: str = "") -> Path:
    """Return `folder/DATASET_MODEL_PRETRAINED_TASK.json`, without characters that a file name cannot have."""
    parts = [dataset, model, pretrained, task]
    return Path(folder) / ("_".join(re.sub(r"[^\w.@-]+", "-", part).strip("-.") for part in parts if part) + ".json")


def data_names(evaluation: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """
    Return the name of the data of each block of `evaluation`, which its result has: their place and their split.

    Blocks of one task may have equal data, such as two seeds of `shapes`. They have their own name behind the place.
    """
    places = {}
    for name, block in evaluation.items():
        source = block.get("data_dir") or block.get("data_files") or block["dataset_name"]
        # The folder names the data in CLIP_benchmark's layout.
        places[name] = block.get("task", name), str(source).removesuffix("/test/*.tar"), block.get("split", "test")
    counts = Counter(places.values())
    return {
        name: f"{source}:{name}/{split}" if counts[task, source, split] > 1 else f"{source}/{split}"
        for name, (task, source, split) in places.items()
    }


def write_whole(path: Path, data: str | bytes) -> None:
    """
    Write a file whole or not at all, even after a loss of power, and create missing folders.

    Several processes may write the same file. A kill leaves a file `NAME.DIGITS.tmp` at most, see [`remove_torn`].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unshared(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:  # Half a file would take up the room that is missing.
        temporary.unlink(missing_ok=True)
        raise


def unshared(path: Path) -> Path:
    """
    Return a name beside a path that no other process writes, `NAME.DIGITS.tmp`.

    Containers on one file system may have equal process ids, so the digits are random.
    """
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")


def read_written(path: Path) -> dict[str, Any]:
    """
    Read a JSON that this package wrote.

    Raises:
        ForeignFileError: The file is missing or damaged.
    """
    return read_json(path, **_WRITTEN)


def read_written_lines(path: Path) -> list[dict[str, Any]]:
    """
    Read a file of this package with one JSON object on each line.

    Raises:
        ForeignFileError: The file is missing or damaged, or a line is no object.
    """
    rows = []
    for number, row in read_json_lines(path, **_WRITTEN):
        fields(row, {}, path, where=f"line {number}", **_WRITTEN)
        rows.append(row)
    return rows


def remove_torn(folder: Path) -> None:
    """Remove the files that killed calls of [`write_whole`] left in a folder; no other process may write there now."""
    for path in folder.glob("*.tmp"):
        path.unlink()


def load_results(folder: str | Path) -> list[dict]:
    """
    Return every result that [`save_results`] wrote in `folder`, by file name.

    Raises:
        ForeignFileError: A JSON in the folder is no result, or one of a later version of the package.
    """
    words = {"allowed": "A result is a JSON that `save_results` wrote.", "fix": "Evaluate again, or move it away."}
    records = {path: read_json(path, **words) for path in sorted(Path(folder).glob("*.json"))}
    for path, record in records.items():
        check_version(record, path, "result")
        fields(record, {"dataset": str, "task": str, "metrics": dict}, path, where="the file", **words)
    return list(records.values())


def is_bits(metric: str) -> bool:
    """Tell a likelihood in bits from a share or a number of points."""
    return metric.rpartition("/")[2] == BITS


def save_cost(folder: str | Path, costs: dict[str, dict[str, Any]]) -> Path:
    """Write `cost.json` into a run's folder: results of `measure_cost` by the model's role (`student`, `teacher`)."""
    path = Path(folder) / COST_NAME
    write_whole(path, json.dumps(costs, indent=2) + "\n")
    return path
