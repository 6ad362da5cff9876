"""Ranking of cheap numbers of a student by how well they predict its VQA inside a vision-language model."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from ...cells.cells import Study, condition
from ...cells.metrics import QUESTION_PROBE, VQA, ZERO_SHOT, Metric, probes
from ...estimates.outcomes import questions
from ...estimates.statistics import Estimate, rank_correlation
from .canvas import LeftOut, ink, panels

FEWEST_CONDITIONS = 4
MOST_ROWS = 15
# Beginnings of the probes that are always shown: those that others propose for choosing a teacher.
NAMED = (ZERO_SHOT.title, f"{QUESTION_PROBE.title} (", "gromov wasserstein", "a score", "c score")


def predicted(study: Study) -> Metric:
    """Return the number that probes are to predict: the meter, or VQA accuracy if the meter is a probe itself."""
    return VQA if study.meter == QUESTION_PROBE else study.meter


def named(found: Iterable[str]) -> list[str]:
    """Return the names of probes that are always shown."""
    return [name for name in found if name.startswith(NAMED)]


@functools.cache
def ranked(study: Study) -> dict[str, tuple[int, Estimate]]:
    """
    Return probe -> (number of its cells, rank correlation with VQA over them), the strongest first.

    A probe that grows as VQA gets better has a value above zero, also where VQA is in bits.

    A probe uses all cells of the first reading that have it and VQA; CKA needs a teacher. A probe measured in fewer
    than half of the cells is left out, and so is a constant one.
    """
    metric = predicted(study)
    cells = [cell for cell in study.read_first if metric.of(cell) is not None]
    found = {}
    for name in dict.fromkeys(name for cell in cells for name in probes(cell)):
        some = [cell for cell in cells if name in probes(cell)]
        conditions = [condition(cell) for cell in some]
        if len(some) < len(cells) / 2 or len(set(conditions)) < FEWEST_CONDITIONS:
            continue
        x = np.array([probes(cell)[name] for cell in some])
        y, images = questions(some, metric) or (np.array([metric.of(cell) for cell in some]), None)
        estimate = rank_correlation(x, metric.better(y), conditions, images=images)
        if math.isfinite(estimate.value):
            found[name] = len(some), estimate
    return dict(sorted(found.items(), key=lambda item: -abs(item[1][1].value)))


def shown(study: Study) -> dict[str, tuple[int, Estimate]]:
    """Return the strongest of [`ranked`], and those that are always shown."""
    found = ranked(study)
    names = {*list(found)[:MOST_ROWS], *named(found)}
    return {name: value for name, value in found.items() if name in names}


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw the strongest probes with their intervals.

    Raises:
        LeftOut: Too few conditions have both VQA and a probe.
    """
    found = shown(study)
    if not found:
        raise LeftOut(
            f"Fewer than {FEWEST_CONDITIONS} conditions of this study have both VQA and a probe, too few to rank "
            "probes by."
        )
    names = [textwrap.fill(name, 24) if narrow else name for name in found]
    lines = 1 + max(name.count("\n") for name in names)
    figure, (axes,) = panels(1, narrow, height=0.9 + (0.1 + 0.17 * lines) * len(found))
    for row, (_, estimate) in enumerate(found.values()):
        axes.plot([estimate.low, estimate.high], [row, row], color="C0", linewidth=1.5)
        axes.plot(estimate.value, row, "o", color="C0")
    axes.axvline(0, color=ink(), linewidth=0.8)
    axes.set(
        xlim=(-1.05, 1.05),
        xlabel=_label(predicted(study), narrow),
        yticks=range(len(found)),
        yticklabels=names,
    )
    axes.invert_yaxis()
    return figure


def _label(metric: Metric, narrow: bool) -> str:
    scored = "fewer bits" if metric.lower_is_better else metric.title
    return ("rank correlation\n" if narrow else "rank correlation ") + f"with {scored}"
