"""Numbers that a report shows, and their places in a cell file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from ...recipe_io.results import MAIN

BY_TYPE = (MAIN, "/accuracy", "/anls")  # Endings of the share of a benchmark among several, and of a type of question.
# Number of the block `vqa` -> list in a cell that has it of each question.
SINGLE = {"accuracy": "vqa_correct", "answer_bits": "vqa_bits"}
# Lists in a cell with a value for each question.
QUESTION_LISTS = (*SINGLE.values(), "vqa_images", "vqa_types")
STANDARD_ERROR = "question_probe_stderr"  # It says how sure a probe is, not what a tower is worth.


@dataclass(frozen=True)
class Metric:
    """One number of a cell."""

    title: str = field(metadata={"help": "Name for readers."})
    block: tuple[str, ...] = field(metadata={"help": "The keys down to the flat block, `('representation', 'vqa')`."})
    key: str = field(metadata={"help": "Name in the block. Several data sets (`imagenet/acc1`) give their mean."})
    percent: bool = field(default=True, metadata={"help": "A share, shown in per cent."})
    lower_is_better: bool = field(default=False, metadata={"help": "Bits and distances: less of it is better."})

    @property
    def unit(self) -> str:
        """Unit of a difference: `points` of a share, `bits`, or nothing."""
        return "points" if self.percent else "bits" if self.key == "answer_bits" else ""

    @property
    def single(self) -> str | None:
        """Key of the list in a cell that has the number of each question, if there may be one."""
        return SINGLE.get(self.key) if self.block == ("vqa",) else None

    @property
    def heading(self) -> str:
        """Title with its unit, for an axis."""
        return f"{self.title}, %" if self.percent else self.title

    def better(self, difference: float) -> float:
        """Return a difference with the sign of its worth: above zero is better."""
        return -difference if self.lower_is_better else difference

    def of(self, cell: dict[str, Any]) -> float | None:
        """
        Return the number, in per cent if it is a share, or `None` if it was not measured.

        A data set with a main metric of its own (`winoground/main`) is no part of a mean of several.
        """
        block: Any = cell
        for name in self.block:
            block = (block or {}).get(name)
        block = block or {}
        parts = [self.key] if self.key in block else [key for key in block if self._is_part(key, block)]
        found = [block[key] for key in parts if block[key] is not None and math.isfinite(block[key])]
        return (100 if self.percent else 1) * mean(found) if found else None

    def _is_part(self, key: str, block: dict[str, Any]) -> bool:
        name, found, rest = key.rpartition(f"/{self.key}")
        return bool(found) and not rest and f"{name}{MAIN}" not in block

    def show(self, value: float) -> str:
        """Return the number as text."""
        return f"{value:.{1 if self.percent or abs(value) >= 10 else 2}f}".replace("-", "−")

    def show_mean(self, values: Sequence[float]) -> str:
        """Return mean and standard deviation of several numbers as text, `36.4 ± 0.3`; one number has no `±`."""
        return self.show(mean(values)) + (f" ± {self.show(stdev(values))}" if len(values) > 1 else "")


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, `+0.60` or `−0.60`."""
    return f"{value:+.{digits}f}".replace("-", "−")


ZERO_SHOT = Metric("zero-shot accuracy", ("student",), "acc1")
IMAGE_RETRIEVAL = Metric("image R@1", ("student",), "image_retrieval_recall@1")
TEXT_RETRIEVAL = Metric("text R@1", ("student",), "text_retrieval_recall@1")
# Winoground's three scores, of the compositional pairs of `shapes` and of other benchmarks.
TEXT_SCORE = Metric("compositional text score", ("student",), "text_acc")
IMAGE_SCORE = Metric("compositional image score", ("student",), "image_acc")
GROUP_SCORE = Metric("compositional group score", ("student",), "acc")
# Mean of the text score over categories.
MACRO_SCORE = Metric("compositional mean over categories", ("student",), "macro_acc")
COMPOSITIONAL = (TEXT_SCORE, IMAGE_SCORE, GROUP_SCORE, MACRO_SCORE)
VQA = Metric("VQA accuracy", ("vqa",), "accuracy")
# Mean bits of the accepted answer: 0 for a model that is sure of it.
BITS = Metric("VQA answer bits", ("vqa",), "answer_bits", percent=False, lower_is_better=True)
# Mean height of the learning curve over the logarithm of the steps, in the unit of the score.
AREA = Metric("VQA curve area", ("curve", "area"), "accuracy")
AREA_BITS = Metric("VQA curve area, bits", ("curve", "area"), "answer_bits", percent=False, lower_is_better=True)
# Sets of images whose representations are compared.
IMAGES = {"classification": "classification images", "vqa": "VQA images"}
CKA = {
    images: Metric(f"CKA, {name}", ("representation", images), "cka", percent=False) for images, name in IMAGES.items()
}
# Accuracy of questions from the tokens, independent of any language model.
QUESTION_PROBE = Metric("question probe", ("representation", "vqa"), "question_probe")
# Scores of the geometry alone, without any training. The first is a distance.
GROMOV_WASSERSTEIN = Metric(
    "Gromov–Wasserstein distance", ("representation", "vqa"), "gromov_wasserstein", percent=False, lower_is_better=True
)
A_SCORE = Metric("A score", ("representation", "vqa"), "a_score", percent=False)
C_SCORE = Metric("C score", ("representation", "vqa"), "c_score", percent=False)
TRAINING_FREE = (GROMOV_WASSERSTEIN, A_SCORE, C_SCORE)
RANK = Metric("effective rank, VQA images", ("representation", "vqa"), "effective_rank", percent=False)
# Columns of the tables.
METRICS = (
    ZERO_SHOT,
    IMAGE_RETRIEVAL,
    TEXT_RETRIEVAL,
    *COMPOSITIONAL,
    VQA,
    BITS,
    AREA,
    QUESTION_PROBE,
    *CKA.values(),
    RANK,
)
# Values of a study's `meter`, and the number that its findings call VQA then.
METERS = {"accuracy": VQA, "answer_bits": BITS, "curve_area": AREA, "question_probe": QUESTION_PROBE}


def question_types(cell: dict[str, Any]) -> dict[str, float]:
    """Return the accuracy (or ANLS) of each type of question in per cent, or the main metric of each benchmark."""
    vqa = cell.get("vqa") or {}
    if mains := main_scores(vqa):
        return mains
    # Several benchmarks in a cell of an old version have no main metrics.
    found = {key.rpartition("/")[0]: 100 * value for key, value in vqa.items() if key.endswith(BY_TYPE)}
    fewest = min((name.count("/") for name in found), default=0)
    return {name: value for name, value in found.items() if name.count("/") == fewest}


def main_scores(block: dict[str, Any]) -> dict[str, float]:
    """Return the number that papers quote of each of several benchmarks, in per cent."""
    return {key.removesuffix(MAIN): 100 * value for key, value in block.items() if key.endswith(MAIN)}


def changed_captions(cell: dict[str, Any]) -> dict[str, float]:
    """
    Return the compositional text score of each category in per cent, such as `swapped_colors`.

    Several benchmarks have their main metric instead, and a benchmark without categories has its score as `all`.
    """
    student = cell.get("student") or {}
    if mains := main_scores(student):
        return mains
    mark = f"{TEXT_SCORE.key}/"
    found = {
        f"{before}{category}": 100 * value
        for key, value in student.items()
        for before, found, category in [key.partition(mark)]
        if found
    }
    whole = next((score for metric in (MACRO_SCORE, TEXT_SCORE) if (score := metric.of(cell)) is not None), None)
    return found or ({} if whole is None else {"all": whole})


def probes(cell: dict[str, Any]) -> dict[str, float]:
    """Return all scores that are cheaper than VQA: zero-shot, retrieval and the representation's."""
    titles = {metric.key: metric.title for metric in (ZERO_SHOT, IMAGE_RETRIEVAL, TEXT_RETRIEVAL, *COMPOSITIONAL)}
    found = {titles.get(key, key): value for key, value in (cell.get("student") or {}).items()}
    for images, block in (cell.get("representation") or {}).items():
        found |= {f"{key} ({IMAGES.get(images, images)})": value for key, value in block.items()}
    return {
        name.replace("_", " "): value
        for name, value in found.items()
        if value is not None and math.isfinite(value) and not name.startswith(STANDARD_ERROR) and MAIN not in name
    }
