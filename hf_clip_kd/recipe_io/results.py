"""Result files: numbers with the config that made them, in the shape that CLIP_benchmark's tools read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .foreign import fields, read_json

# Files that a run leaves in its folder.
METRICS_NAME = "metrics.jsonl"
COST_NAME = "cost.json"


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

    Returns:
        `Path`: See [`result_path`]. A result of the same name is replaced.

    Raises:
        ValueError: A metric is not finite, which JSON cannot hold.
    """
    path = result_path(folder, dataset=dataset, model=model, pretrained=pretrained, task=task)
    record = {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": task,
        "metrics": metrics,
        "language": "en",
        "config": config,
    } | (details or {})
    write_whole(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def result_path(folder: str | Path, *, dataset: str, model: str, task: str, pretrained: str = "") -> Path:
    """Return `folder/DATASET_MODEL_PRETRAINED_TASK.json`, without characters that a file name cannot have."""
    parts = [dataset, model, pretrained, task]
    return Path(folder) / ("_".join(re.sub(r"[^\w.@-]+", "-", part).strip("-.") for part in parts if part) + ".json")


def data_name(block: dict[str, Any]) -> str:
    """Return the name of the data in a block of `evaluation`: their place and their split."""
    source = block.get("data_dir") or block.get("data_files") or block["dataset_name"]
    return f"{source}/{block.get('split', 'test')}"


def write_whole(path: Path, data: str | bytes) -> None:
    """
    Write a file whole or not at all, even after a loss of power, and create missing folders.

    Several processes may write the same file. A kill leaves a file `NAME.PID.tmp` at most, see [`remove_torn`].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def remove_torn(folder: Path) -> None:
    """Remove the files that killed calls of [`write_whole`] left in a folder; no other process may write there now."""
    for path in folder.glob("*.tmp"):
        path.unlink()


def load_results(folder: str | Path) -> list[dict]:
    """
    Return every result that [`save_results`] wrote in `folder`, by file name.

    Raises:
        ForeignFileError: A JSON in the folder is no result.
    """
    words = {"allowed": "A result is a JSON that `save_results` wrote.", "fix": "Evaluate again, or move it away."}
    records = {path: read_json(path, **words) for path in sorted(Path(folder).glob("*.json"))}
    for path, record in records.items():
        fields(record, {"dataset": str, "task": str, "metrics": dict}, path, where="the file", **words)
    return list(records.values())


def save_cost(folder: str | Path, costs: dict[str, dict[str, Any]]) -> Path:
    """Write `cost.json` into a run's folder: results of `measure_cost` by the model's role (`student`, `teacher`)."""
    path = Path(folder) / COST_NAME
    write_whole(path, json.dumps(costs, indent=2) + "\n")
    return path
