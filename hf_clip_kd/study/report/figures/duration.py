"""Figure 3 of the paper: zero-shot, VQA and likeness to the teacher as training gets longer."""

from __future__ import annotations

from matplotlib.figure import Figure

from ...cells.cells import Study, Sweep, scores
from ...cells.metrics import CKA, ZERO_SHOT, Metric
from .canvas import LeftOut, legend, line_of_means, look, panels, same_span

MOST_LINES = 4  # More lines cannot be told apart.


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw scores against steps, mean and deviation over seeds; each line has cells that differ in duration.

    Raises:
        LeftOut: All cells were trained equally long.
    """
    sweeps = study.sweeps("duration")[:MOST_LINES]
    if not sweeps:
        raise LeftOut("All cells of this study were trained equally long, so nothing can be said of duration.")
    asked = (ZERO_SHOT, study.meter, *CKA.values())
    shown = [metric for metric in asked if any(lines(sweep, metric) for sweep in sweeps)]
    figure, axes = panels(len(shown), narrow, height=2.5, columns=2)
    unit, ends = ticks([cells[0] for sweep in sweeps for cells in sweep.cells.values()])
    for panel, metric in zip(axes, shown, strict=True):
        for number, sweep in enumerate(sweeps):
            found, (colour, _) = lines(sweep, metric), look(number)
            line_of_means(panel, found, sweep.label(sweeps) or "student", number)
            for steps, values in found.items():
                panel.plot([steps] * len(values), values, ".", color=colour, alpha=0.5, markersize=3)
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(ends), [f"{end:g}" for end in ends.values()])
        panel.minorticks_off()
        panel.set(title=metric.heading, xlabel=unit)
    # The paper's point is that one of the two rises and the other does not, so they share a scale.
    for group in ((ZERO_SHOT, study.meter), CKA.values()):
        alike = {metric: panel for panel, metric in zip(axes, shown, strict=True) if metric in group}
        if len({metric.unit for metric in alike}) == 1:
            same_span(list(alike.values()))
    if len(sweeps) > 1:
        legend(figure, axes[0], narrow)
    return figure


def lines(sweep: Sweep, metric: Metric) -> dict[float, list[float]]:
    """Return steps -> scores of the seeds, if there are any."""
    found = {cells[0]["steps"]: list(scores(cells, metric).values()) for cells in sweep.cells.values()}
    return {steps: values for steps, values in found.items() if values}


def ticks(cells: list[dict]) -> tuple[str, dict[int, float]]:
    """
    Return the unit of the lengths to show, and steps -> length in it.

    Readers know epochs best. Streams have none, and two data sets may have other epochs at the same steps.
    """
    pairs = sorted({(cell["steps"], cell["epochs"]) for cell in cells})
    steps, epochs = map(set, zip(*pairs, strict=True))
    if len(steps) == len(epochs) == len(pairs):
        return "epochs", dict(pairs)
    return "steps", {number: number for number in sorted(steps)}
