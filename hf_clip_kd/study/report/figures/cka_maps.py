"""Likeness of a student's layers to its teacher's layers."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...cells.cells import Study
from ...cells.metrics import IMAGES
from .canvas import LeftOut, panels

MOST_TEACHERS = 3


def maps(study: Study) -> dict[tuple[str, str], np.ndarray]:
    """Return (teacher, set of images) -> CKA `(teacher's layers, student's layers)` in [0, 1], the mean over seeds."""
    sweep = study.main_sweep("teacher", fewest=1)
    found = {}
    for teacher, cells in list((sweep.cells if sweep else {}).items())[-MOST_TEACHERS:]:
        for images in IMAGES:
            some = [cell["representation_maps"][images]["cka"] for cell in cells if _has_map(cell, images)]
            if some:
                found[teacher, images] = np.mean(some, axis=0)
    return found


def _has_map(cell: dict, images: str) -> bool:
    return "cka" in ((cell.get("representation_maps") or {}).get(images) or {})


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw one map for each teacher and set of images.

    Raises:
        LeftOut: No cell compared the layers of a student with those of its teacher.
    """
    found = maps(study)
    if not found:
        raise LeftOut("No layers were compared in this study, so there are no maps of their likeness (CKA).")
    teachers, images = ({key[part] for key in found} for part in (0, 1))
    if not narrow:  # A page has the teachers beside each other, a phone below each other.
        found = dict(sorted(found.items(), key=lambda item: list(IMAGES).index(item[0][1])))
    figure, axes = panels(len(found), narrow, height=2.4, columns=len(teachers), narrow_columns=len(images))
    for panel, ((teacher, images), values) in zip(axes, found.items(), strict=True):
        image = panel.imshow(values, cmap="cividis", vmin=0, vmax=1, origin="lower")
        title = IMAGES[images].replace(" ", "\n" if narrow else " ")
        panel.set(title=title, xlabel="student's layer", ylabel=f"layer of {teacher}")
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.grid(visible=False)
        if values.size <= 40 and not narrow:
            for (row, column), value in np.ndenumerate(values):
                colour = "white" if value < 0.55 else "#1a1a1a"
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", size=7, color=colour)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", aspect=40, shrink=0.8)
    bar.set_label("linear CKA")
    return figure
