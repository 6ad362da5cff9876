"""Learning curves: accuracy, and bits of the answer, over the steps of the vision-language model."""

from __future__ import annotations

from collections import Counter

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ...cells.cells import Study
from ...cells.metrics import BITS, VQA
from ...estimates.curves import lines
from ...estimates.gauges import curve_steps
from ...estimates.meter import ALONE, UNTRAINED
from .canvas import LeftOut, ink, legend, look, panels

LINE_STYLES = {"reference": ":", "teacher": "--", "student": "-"}


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw the mean curve of each tower, for accuracy and for bits.

    Raises:
        LeftOut: No language model was scored at several step counts.
    """
    found = lines(study)
    steps = curve_steps([record for line in found for record in line.records])
    if len(steps) < 2:
        raise LeftOut("No language model of this study was scored at several step counts, so there is no curve.")
    shown = [metric for metric in (VQA, BITS) if any(line.values(metric) is not None for line in found)]
    figure, axes = panels(len(shown), narrow, height=3.0)
    for panel, metric in zip(axes, shown, strict=True):
        drawn = Counter()
        for place, line in enumerate(found):
            if (values := line.values(metric)) is None:
                continue
            # The lower rungs of the ladder have the colour of text. Teachers and students have the same colours, as
            # dashes and marks tell them apart.
            plain = line.label in (ALONE, UNTRAINED)
            colour = ink() if plain else look(drawn[line.kind])[0]
            drawn[line.kind] += not plain
            panel.plot(
                steps,
                values,
                color=colour,
                linestyle=LINE_STYLES[line.kind],
                marker=look(place)[1],
                markersize=4,
                label=line.label,
            )
        panel.set_xscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(steps, [str(step) for step in steps])
        panel.set(title=f"{metric.heading}{', fewer is better' if metric.lower_is_better else ''}")
        panel.set_xlabel("steps of the vision-language model")
    legend(figure, axes[0], narrow)
    return figure
