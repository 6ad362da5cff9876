"""VQA against the tokens of an image, a line for each student."""

from __future__ import annotations

from statistics import mean, stdev

from matplotlib.figure import Figure

from ...cells.cells import Study, scores
from ..image_tokens import token_sweeps
from .canvas import LeftOut, legend, look, panels


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw mean and deviation over seeds, on a logarithmic axis of tokens.

    Raises:
        LeftOut: All language models of the study got the same number of tokens.
    """
    sweeps, metric = token_sweeps(study), study.meter
    if not sweeps:
        raise LeftOut("All language models of this study got the same number of tokens of an image.")
    figure, (panel,) = panels(1, narrow, height=3.0)
    for number, sweep in enumerate(sweeps):
        found = {count: list(scores(cells, metric).values()) for count, cells in sweep.cells.items()}
        found = {count: values for count, values in found.items() if values}
        colour, marker = look(number)
        panel.errorbar(
            list(found),
            [mean(values) for values in found.values()],
            [stdev(values) if len(values) > 1 else 0 for values in found.values()],
            color=colour,
            marker=marker,
            capsize=3,
            label=sweep.label(sweeps) or "student",
        )
    counts = sorted({count for sweep in sweeps for count in sweep.cells})
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.set(title=metric.heading, xlabel="tokens of an image")
    if len(sweeps) > 1:
        legend(figure, panel, narrow)
    return figure
