"""Cost of a score: parameters and throughput of teachers and students."""

from __future__ import annotations

from itertools import product
from statistics import mean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ....hub.cards.markdown import count
from ...cells.cells import Study
from ...cells.metrics import ZERO_SHOT
from .canvas import LeftOut, legend, look, panels

COSTS = {"vision_parameters": "parameters of the vision encoder", "images_per_second": "images per second"}


def students(study: Study) -> dict[str, list[dict]]:
    """Return name -> cells of each student."""
    found: dict[str, list[dict]] = {}
    for cell in study.read_first:
        found.setdefault(cell["axes"]["student"], []).append(cell)
    return found


def cost_of(cells: list[dict], name: str) -> float | None:
    """Return the median over the cells, as other processes slow some of them; `None` if not measured."""
    values = [value for cell in cells if (value := (cell.get("cost") or {}).get(name)) is not None]
    return median(values) if values else None


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw zero-shot and VQA against parameters and images per second, on logarithmic axes.

    Raises:
        LeftOut: No cost was measured.
    """
    teachers = study.record["teachers"]
    costs = [*study.cells, *teachers.values()]
    known = [name for name in COSTS if any(cost_of([record], name) for record in costs)]
    asked = (ZERO_SHOT, study.meter)
    scored = [metric for metric in asked if any(metric.of(cell) is not None for cell in study.cells)]
    if not known or not scored:
        raise LeftOut("Neither parameters nor throughput were measured in this study.")
    figure, axes = panels(len(known) * len(scored), narrow, height=2.4, columns=len(scored))
    for panel, (name, metric) in zip(axes, product(known, scored), strict=True):
        for number, (student, cells) in enumerate(students(study).items()):
            values = [value for cell in cells if (value := metric.of(cell)) is not None]
            _points(panel, cost_of(cells, name), values, f"student {student}", *look(number))
        for number, (teacher, record) in enumerate(teachers.items(), start=len(students(study))):
            score = metric.of(record)
            values = [] if score is None else [score]
            _points(panel, cost_of([record], name), values, f"teacher {teacher}", *look(number))
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        panel.xaxis.set_major_formatter(lambda value, _: count(value))
        panel.minorticks_off()
        panel.set(title=metric.heading, xlabel=COSTS[name])
    legend(figure, axes[0], narrow)
    return figure


def _points(axes: Axes, cost: float | None, values: list[float], label: str, colour: str, marker: str) -> None:
    if cost is None or not values:
        return
    axes.plot(cost, mean(values), marker, color=colour, markersize=8, label=label)
    axes.plot([cost] * len(values), values, "_", color=colour, alpha=0.5)
