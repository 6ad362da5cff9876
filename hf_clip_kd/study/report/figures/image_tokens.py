"""VQA against the tokens of an image, a line for each student."""

from __future__ import annotations

from matplotlib.figure import Figure

from ...cells.cells import Study, scores
from ..image_tokens import token_sweeps
from .canvas import LeftOut, legend, line_of_means, panels


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
        line_of_means(panel, found, sweep.label(sweeps) or "student", number)
    counts = sorted({count for sweep in sweeps for count in sweep.cells})
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.set(title=metric.heading, xlabel="tokens of an image")
    if len(sweeps) > 1:
        legend(figure, panel, narrow)
    return figure
