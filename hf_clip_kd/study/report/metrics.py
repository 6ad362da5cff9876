"""The numbers that a report shows, and where they stand in a cell file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

BY_TYPE = "/accuracy"


@dataclass(frozen=True)
class Metric:
    """One number of a cell."""

    title: str = field(metadata={"help": "As a reader sees it."})
    block: tuple[str, ...] = field(metadata={"help": "The keys down to the flat block, `('representation', 'vqa')`."})
    key: str = field(metadata={"help": "Its name there; of several data sets, `imagenet/acc1`, the mean."})
    percent: bool = field(default=True, metadata={"help": "Whether a share, shown in per cent."})

    def of(self, cell: dict[str, Any]) -> float | None:
        """The number, in per cent if it is a share, or `None` where it was not measured."""
        block: Any = cell
        for name in self.block:
            block = (block or {}).get(name)
        block = block or {}
        parts = [self.key] if self.key in block else [key for key in block if key.endswith(f"/{self.key}")]
        found = [block[key] for key in parts if block[key] is not None and math.isfinite(block[key])]
        return (100 if self.percent else 1) * mean(found) if found else None

    def show(self, value: float) -> str:
        """The number as text."""
        return f"{value:.{1 if self.percent or abs(value) >= 10 else 2}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """`+0.60` or `−0.60`."""
    return f"{value:+.{digits}f}".replace("-", "−")


ZERO_SHOT = Metric("zero-shot accuracy", ("student",), "acc1")
IMAGE_RETRIEVAL = Metric("image R@1", ("student",), "image_retrieval_recall@1")
TEXT_RETRIEVAL = Metric("text R@1", ("student",), "text_retrieval_recall@1")
VQA = Metric("VQA accuracy", ("vqa",), "accuracy")
# The sets of images whose representations are compared.
IMAGES = {"classification": "classification images", "vqa": "VQA images"}
CKA = {
    images: Metric(f"CKA, {name}", ("representation", images), "cka", percent=False) for images, name in IMAGES.items()
}
# What the tokens hold, whether or not a language model learns to read it.
QUESTION_PROBE = Metric("question probe", ("representation", "vqa"), "question_probe")
RANK = Metric("effective rank, VQA images", ("representation", "vqa"), "effective_rank", percent=False)
# The columns of the tables.
METRICS = (ZERO_SHOT, IMAGE_RETRIEVAL, TEXT_RETRIEVAL, VQA, QUESTION_PROBE, *CKA.values(), RANK)


def question_types(cell: dict[str, Any]) -> dict[str, float]:
    """Per cent right for each type of question; of several benchmarks for each of them."""
    found = {
        key.removesuffix(BY_TYPE): 100 * value
        for key, value in (cell.get("vqa") or {}).items()
        if key.endswith(BY_TYPE)
    }
    fewest = min((name.count("/") for name in found), default=0)
    return {name: value for name, value in found.items() if name.count("/") == fewest}


def probes(cell: dict[str, Any]) -> dict[str, float]:
    """All that is cheaper to measure than VQA: zero-shot and retrieval scores, and what describes the representation."""
    titles = {metric.key: metric.title for metric in (ZERO_SHOT, IMAGE_RETRIEVAL, TEXT_RETRIEVAL)}
    found = {titles.get(key, key): value for key, value in (cell.get("student") or {}).items()}
    for images, block in (cell.get("representation") or {}).items():
        found |= {f"{key} ({IMAGES.get(images, images)})": value for key, value in block.items()}
    return {
        name.replace("_", " "): value for name, value in found.items() if value is not None and math.isfinite(value)
    }
