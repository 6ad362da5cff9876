"""Figure 2 of the paper: the gap between a student and its teacher."""

from __future__ import annotations

import functools
import math

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ...cells.cells import Study
from ...cells.metrics import ZERO_SHOT, Metric
from ...estimates.lead import beside
from ...estimates.outcomes import estimate
from ...estimates.statistics import Estimate
from .canvas import LeftOut, ink, panels


@functools.cache
def gaps(study: Study, metric: Metric) -> dict[str, tuple[float, Estimate]]:
    """
    Return teacher -> (its own score, distance of its student's from it), the weakest teacher first.

    The interval covers the seeds, and the questions if those of the teacher are known.
    """
    sweep = study.main_sweep("teacher", fewest=1)
    found = {}
    for teacher, cells in (sweep.cells if sweep else {}).items():
        score = study.teacher_score(teacher, metric)
        if not math.isfinite(score):
            continue
        own = beside(study.record["teachers"][teacher], cells)
        if (gap := estimate([own, cells], metric, [-1, 1])) is not None:
            found[teacher] = score, gap
    return found


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw one bar for each teacher, zero-shot and VQA beside each other.

    Raises:
        LeftOut: There is no teacher whose own scores are known.
    """
    shown = {metric: found for metric in (ZERO_SHOT, study.meter) if (found := gaps(study, metric))}
    if not shown:
        raise LeftOut(
            "No teacher of this study was measured itself, so there is no gap between teacher and student to show."
        )
    most = max(map(len, shown.values()))
    figure, axes = panels(len(shown), narrow, height=1.1 + 0.42 * most)
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for panel, (metric, found), colour in zip(axes, shown.items(), colours, strict=False):
        estimates = [estimate for _, estimate in found.values()]
        values = [estimate.value for estimate in estimates]
        reach = [estimate.high - estimate.value for estimate in estimates]  # One seed gives nan, which is not drawn.
        panel.barh(range(len(values)), values, xerr=reach, height=0.6, color=colour, ecolor=ink(), capsize=3)
        panel.axvline(0, color=ink(), linewidth=0.8)
        labels = [
            f"{teacher}\n{metric.show(score)} → {metric.show(score + estimate.value)}"
            for teacher, (score, estimate) in found.items()
        ]
        unit = f", {metric.unit}" if metric.unit else ""
        panel.set(
            title=metric.title,
            xlabel=f"student less teacher{unit}",
            yticks=range(len(values)),
            yticklabels=labels,
        )
        plt.setp(panel.get_yticklabels(), multialignment="right")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        panel.invert_yaxis()
    if len({metric.unit for metric in shown}) == 1:
        ends = [end for panel in axes for end in panel.get_xlim()]
        for panel in axes:  # Both panels get the same scale.
            panel.set_xlim(min(ends), max(ends))
    return figure
