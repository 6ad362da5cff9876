"""The figure of a choice: what a student gets from each teacher, beside the teacher's own score."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..estimates.statistics import Estimate
from ..report.figures.canvas import MARKERS, ink, panels
from .pilots import ALONE
from .ranking import Ranking
from .scores import TITLES


def draw(ranking: Ranking, narrow: bool) -> Figure:
    """
    Draw the rows below each other, the best at the top.

    The panels are the score of the students (seeds are faint, a dotted line is the student alone), its difference from
    the student alone, and the teachers' own score. Lines are 95% intervals.
    """
    metric, own = ranking.metric, ranking.own_metric
    rows = ranking.rows[::-1]
    titles = [f"student: {TITLES[metric]}, %", "above the student alone, points"]
    titles += [] if own is None else [f"teacher: {TITLES[own]}, %"]
    figure, axes = panels(len(titles), narrow, height=1.0 + 0.32 * len(rows))
    for place, row in enumerate(rows):
        colour = ink() if row.name == ALONE else "C0"
        axes[0].plot(row.by_seed, [place] * len(row.by_seed), MARKERS[0], color=colour, alpha=0.35, markersize=4)
        _mark(axes[0], place, row.pilots[metric], colour)
        if row.gain is None:
            axes[0].axvline(row.pilots[metric].value, color=ink(), linestyle=":")
            axes[1].axvline(0, color=ink(), linestyle=":")
        else:
            _mark(axes[1], place, row.gain, colour)
        if own in row.own:
            _mark(axes[2], place, row.own[own], "C1")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        named = narrow or panel is axes[0]
        panel.set_yticks(range(len(rows)), [f"{row.name} ({row.letters})" if named else "" for row in rows])
        panel.set_ylim(-0.6, len(rows) - 0.4)
    return figure


def _mark(panel: Axes, place: int, estimate: Estimate, colour: str) -> None:
    if not math.isnan(estimate.low):
        panel.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.4)
    panel.plot(estimate.value, place, MARKERS[1], color=colour, markersize=6)
