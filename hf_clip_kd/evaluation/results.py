"""Numbers with the config that made them, in the shape that CLIP_benchmark's tools read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path


def save_results(
    folder: str | Path,
    *,
    dataset: str,
    model: str,
    task: str,
    metrics: dict[str, float],
    config: dict,
    pretrained: str = "",
) -> Path:
    """
    Writes one result as JSON, whole or not at all.

    Args:
        folder (`str` or `Path`): Made if it does not exist.
        dataset (`str`): What was measured on.
        model (`str`): Folder, Hub id, or open_clip architecture.
        task (`str`): `"zeroshot_classification"` or `"zeroshot_retrieval"`.
        metrics (`dict[str, float]`): Finite numbers.
        config (`dict`): Every argument that the numbers depend on.
        pretrained (`str`, *optional*, defaults to `""`): open_clip's tag of the weights.

    Returns:
        `Path`: `folder/DATASET_MODEL_PRETRAINED_TASK.json`; a result of the same name is replaced.

    Raises:
        ValueError: if a metric is not finite, which JSON cannot hold.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [dataset, model, pretrained, task]
    path = folder / ("_".join(re.sub(r"[^\w.@-]+", "-", part).strip("-.") for part in parts if part) + ".json")
    record = {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": task,
        "metrics": metrics,
        "language": "en",
        "config": config,
    }
    text = json.dumps(record, indent=2, allow_nan=False)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path


def load_results(folder: str | Path) -> list[dict]:
    """Every result that [`save_results`] wrote in `folder`, by file name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
