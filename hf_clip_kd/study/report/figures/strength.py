"""The students' scores against their teachers' own: does a better teacher make a better student?"""

from __future__ import annotations

from statistics import mean

import numpy as np
from matplotlib.figure import Figure

from ..cells import Study, scores
from ..metrics import VQA, ZERO_SHOT, signed
from ..statistics import Estimate
from ..trends import teachers_slope
from .canvas import MARKERS, LeftOut, ink, legend, panels, same_span


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw seeds as dots, means as marks and the fitted line, for zero-shot and VQA.

    Raises:
        LeftOut: There are no two teachers of different strength with students that differ in nothing else.
    """
    fits = {metric: fit for metric in (ZERO_SHOT, VQA) if (fit := teachers_slope(study, metric)) is not None}
    if not fits:
        raise LeftOut(
            "This study has no two teachers of different strength with equally trained students, so no trend over "
            "teachers can be shown."
        )
    sweep = study.main_sweep("teacher")
    strengths = {teacher: study.strength(teacher) for teacher in sweep.cells}
    figure, axes = panels(len(fits), narrow, height=2.6)
    for panel, (metric, fit) in zip(axes, fits.items(), strict=True):
        means = {}
        for number, (teacher, cells) in enumerate(sweep.cells.items()):
            colour, marker = f"C{number % 5}", MARKERS[number % 7]
            found = list(scores(cells, metric).values())
            means[teacher] = mean(found)
            panel.plot([strengths[teacher]] * len(found), found, marker, color=colour, alpha=0.35, markersize=4)
            panel.plot(
                strengths[teacher], means[teacher], marker, color=colour, markersize=7, label=f"taught by {teacher}"
            )
        x = np.array([min(strengths.values()), max(strengths.values())])
        middle = mean(strengths.values()), mean(means.values())
        panel.plot(x, middle[1] + fit.value * (x - middle[0]), color=ink(), linewidth=1, label="least squares")
        alone = scores(study.without_teacher(sweep.fixed), metric)
        if alone:
            panel.axhline(mean(alone.values()), color=ink(), linestyle=":", label="no teacher")
        panel.set(
            title=f"{metric.title} of the student, %\nslope {slope_text(fit)}",
            xlabel="teacher's zero-shot accuracy, %",
        )
    same_span(axes)
    legend(figure, axes[0], narrow)
    return figure


def slope_text(fit: Estimate) -> str:
    """Return a slope as text, `+0.45 [+0.31, +0.59]`."""
    return signed(fit.value) + ("" if np.isnan(fit.low) else f" [{signed(fit.low)}, {signed(fit.high)}]")
