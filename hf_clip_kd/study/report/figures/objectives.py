"""Objectives side by side: slopes over their teachers, differences to the base objective's, shares of the lead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...cells.cells import Study
from ...estimates.objective_results import GOAL, Result, asked, results, untaught_share
from ...estimates.statistics import Estimate
from .canvas import LeftOut, ink, legend, look, panels


@dataclass(frozen=True)
class Quantity:
    """A panel: one number of each objective."""

    title: str = field(metadata={"help": "Its heading; `{base}` is the base objective."})
    of: Callable[[Result], Estimate | None] = field(metadata={"help": "The number of a result."})
    marked: tuple[float, ...] = field(metadata={"help": "Places with a vertical line."})


QUANTITIES = (
    Quantity("slope", lambda result: result.slope, (0.0,)),
    Quantity("slope less that of {base}", lambda result: result.steps.difference, (0.0,)),
    Quantity("share of the lead", lambda result: result.steps.share, (0.0, GOAL)),
)


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw a panel for each number, a row for each objective, and a mark for each score, with 95% intervals.

    Raises:
        LeftOut: Fewer than two objectives have students of several teachers.
    """
    scored = asked(study)
    if not scored:
        raise LeftOut(
            "This study has no two objectives with students of several teachers, so no slopes stand beside each other."
        )
    names = list(dict.fromkeys(result.objective for _, *asked_of in scored for result in results(study, *asked_of)))
    untaught = dict.fromkeys(name for _, group, _ in scored for name in list(group.untaught)[1:])
    rows = [*names, *untaught]
    height = 0.9 + (0.14 + 0.11 * len(scored)) * len(rows)
    figure, axes = panels(len(QUANTITIES), narrow, height=height)
    for place, (panel, quantity) in enumerate(zip(axes, QUANTITIES, strict=True)):
        for number, (title, group, metric) in enumerate(scored):
            found = {result.objective: quantity.of(result) for result in results(study, group, metric)}
            if quantity is QUANTITIES[-1]:
                found |= {name: untaught_share(study, group, cells, metric) for name, cells in group.untaught.items()}
            shift = 0.7 * ((number + 0.5) / len(scored) - 0.5)
            _marks(panel, [found.get(name) for name in rows], shift, number, title)
        for end in quantity.marked:
            panel.axvline(end, color=ink(), linewidth=0.8, linestyle=":" if end else "-")
        panel.set(title=quantity.title.format(base=names[0]), yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        panel.set_yticklabels(rows if narrow or place == 0 else [""] * len(rows))
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
    legend(figure, axes[0], narrow)
    return figure


def _marks(panel: Axes, estimates: list[Estimate | None], shift: float, number: int, label: str) -> None:
    known = [(row + shift, estimate) for row, estimate in enumerate(estimates) if estimate is not None]
    colour, marker = look(number)
    for row, estimate in known:
        if np.isfinite(estimate.low):
            panel.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.2)
    values = [estimate.value for _, estimate in known]
    panel.plot(values, [row for row, _ in known], marker, color=colour, markersize=4.5, label=label)
