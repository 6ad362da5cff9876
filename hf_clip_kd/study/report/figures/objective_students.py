"""Students of each objective over their teachers' own scores, and their gains over the seconds of training."""

from __future__ import annotations

from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ...cells.cells import Study, scores
from ...cells.metrics import Metric
from ...estimates.comparison import NO_TEACHER
from ...estimates.objective_results import asked
from ...estimates.objectives import Group, line, slope
from ..gains import gains
from .canvas import LeftOut, ink, legend, look, panels

SHOWN = 2  # Scores of `asked` that have a panel: the meter, and the next language model or the probe.


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw a mark for each teacher and objective with its fitted line, and below it gains over training seconds.

    Raises:
        LeftOut: Fewer than two objectives have students of several teachers.
    """
    scored = asked(study)[:SHOWN]
    if not scored:
        raise LeftOut(
            "This study has no two objectives with students of several teachers, so there are no lines to compare."
        )
    groups = [group for _, group, _ in scored]
    looks = _looks(groups)
    timed = [(title, group, metric) for title, group, metric in scored if gains(study, group, metric)]
    figure, axes = panels(len(scored) + len(timed), narrow, height=2.7, columns=len(scored))
    _labels(axes[0], groups, looks)
    for panel, (title, group, metric) in zip(axes, scored, strict=False):
        _students(panel, study, group, metric, looks)
        panel.set(title=f"{title}{', %' if metric.percent else ''}", xlabel="the teacher's own")
        panel.set_ylabel("the student's")
    for panel, (title, group, metric) in zip(axes[len(scored) :], timed, strict=True):
        _gains(panel, study, group, metric, looks)
        unit = f", {metric.unit}" if metric.unit else ""
        panel.set(title=f"gain in {title}{unit}", xlabel="seconds of the student's training")
    legend(figure, axes[0], narrow)
    return figure


Looks = dict[str, tuple[str, str]]


def _looks(groups: list[Group]) -> Looks:
    """Return the colour and the mark of each objective, the same in all panels."""
    names = dict.fromkeys(name for group in groups for name in (*group.taught, *list(group.untaught)[1:]))
    found = {name: look(number) for number, name in enumerate(names)}
    return {NO_TEACHER: ("", "x")} | found


def _labels(panel: Axes, groups: list[Group], looks: Looks) -> None:
    for name, (colour, marker) in looks.items():
        line_style = "-" if any(name in group.taught for group in groups) else "none"
        if name != NO_TEACHER:  # It has a line of its own.
            panel.plot([], [], marker, color=colour, linestyle=line_style, label=name)


def _students(panel: Axes, study: Study, group: Group, metric: Metric, looks: Looks) -> None:
    for objective, taught in group.taught.items():
        colour, marker = looks[objective]
        fitted = line(study, group, taught, metric)
        points = {
            teacher: (study.own_score(teacher, group.axes, metric), mean(found.values()))
            for teacher, cells in taught.items()
            if (found := scores(cells, metric))
        }
        for teacher, point in points.items():
            # An open mark is a teacher of another size.
            face = colour if fitted is None or teacher in fitted.teachers else "none"
            panel.plot(*point, marker, color=colour, markerfacecolor=face)
        if fitted is not None and (found := slope(study, fitted, metric)) is not None:
            ends = np.array([fitted.places.min(), fitted.places.max()])
            middle = np.mean([points[teacher][1] for teacher in fitted.teachers])
            panel.plot(ends, middle + found.value * (ends - fitted.places.mean()), color=colour, linewidth=1)
    if alone := list(scores(group.alone, metric).values()):
        panel.axhline(mean(alone), color=ink(), linestyle=":", label=NO_TEACHER)
    teachers = {name for taught in group.taught.values() for name in taught}
    own = [value for name in teachers if np.isfinite(value := study.own_score(name, group.axes, metric))]
    panel.plot(*[[min(own), max(own)]] * 2, color=ink(), linestyle="--", linewidth=0.8, label="teachers themselves")


def _gains(panel: Axes, study: Study, group: Group, metric: Metric, looks: Looks) -> None:
    for name, points in gains(study, group, metric).items():
        colour, marker = looks[name]
        values = [point.gain.value for point in points]
        reach = np.nan_to_num([point.gain.high - point.gain.value for point in points])
        seconds = [point.seconds for point in points]
        panel.errorbar(seconds, values, reach, color=colour or ink(), marker=marker, linewidth=1, elinewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
