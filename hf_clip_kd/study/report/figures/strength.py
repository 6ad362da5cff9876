"""The students' scores against their teachers' own: does a better teacher make a better student?"""

from __future__ import annotations

from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...cells.cells import Study, scores
from ...cells.metrics import QUESTION_PROBE, ZERO_SHOT, Metric
from ...estimates.slopes import equal_size, teachers_slope
from ...estimates.statistics import Estimate
from ..sentences import with_bounds
from .canvas import LeftOut, ink, legend, look, panels, same_span


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw seeds as dots, means as marks and the fitted line, over the teachers' zero-shot accuracy.

    Raises:
        LeftOut: There are no two teachers of different strength with students that differ in nothing else.
    """
    return _draw(study, narrow, [(metric, ZERO_SHOT) for metric in dict.fromkeys((ZERO_SHOT, study.meter))])


def draw_own(study: Study, narrow: bool) -> Figure:
    """
    Draw the same over the teachers' own score in the same metric: the meter of VQA, and the question probe.

    Raises:
        LeftOut: No two teachers were measured like their students.
    """
    return _draw(study, narrow, [(metric, metric) for metric in dict.fromkeys((study.meter, QUESTION_PROBE))])


def _draw(study: Study, narrow: bool, pairs: list[tuple[Metric, Metric]]) -> Figure:
    fits = {pair: fit for pair in pairs if (fit := teachers_slope(study, *pair)) is not None}
    if not fits:
        raise LeftOut(
            "This study has no two teachers of different strength with equally trained students, so no trend over "
            "teachers can be shown."
        )
    figure, axes = panels(len(fits), narrow, height=2.7)
    for panel, ((metric, against), fit) in zip(axes, fits.items(), strict=True):
        _panel(panel, study, metric, against, fit)
    if len({metric.percent for metric, _ in fits}) == 1:
        same_span(axes)
    legend(figure, axes[0], narrow)
    return figure


def _panel(panel: Axes, study: Study, metric: Metric, against: Metric, fit: Estimate) -> None:
    sweep = study.main_sweep("teacher")
    x = {teacher: study.teacher_score(teacher, against) for teacher in sweep.cells}
    alike = equal_size(study)
    means = {}
    for number, (teacher, cells) in enumerate(sweep.cells.items()):
        colour, marker = look(number)
        found = list(scores(cells, metric).values())
        means[teacher] = mean(found)
        # An open mark is a teacher of another size.
        face = "none" if alike is not None and teacher not in alike else colour
        panel.plot([x[teacher]] * len(found), found, marker, color=colour, alpha=0.35, markersize=4)
        panel.plot(
            x[teacher],
            means[teacher],
            marker,
            color=colour,
            markerfacecolor=face,
            markersize=7,
            label=f"taught by {teacher}",
        )
    _line(panel, fit, [(x[teacher], means[teacher]) for teacher in x], "-" if alike is None else "--", "all teachers")
    title = f"{metric.title} of the student{', %' if metric.percent else ''}\nslope {with_bounds(fit)}"
    if alike is not None and (same := teachers_slope(study, metric, against, alike)) is not None:
        _line(panel, same, [(x[teacher], means[teacher]) for teacher in alike], "-", "of equal size")
        title += f"\nequal size {with_bounds(same)}"
    alone = scores(study.without_teacher(sweep.fixed), metric)
    if alone:
        panel.axhline(mean(alone.values()), color=ink(), linestyle=":", label="no teacher")
    panel.set(title=title, xlabel=f"teacher's {'own ' if against == metric else ''}{against.heading}")


def _line(panel: Axes, fit: Estimate, points: list[tuple[float, float]], style: str, label: str) -> None:
    x, y = np.array(points).T
    ends = np.array([x.min(), x.max()])
    panel.plot(ends, y.mean() + fit.value * (ends - x.mean()), color=ink(), linewidth=1, linestyle=style, label=label)
