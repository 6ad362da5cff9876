"""Accuracy by kind of question, compared with the student without a teacher."""

from __future__ import annotations

import textwrap
from statistics import mean

import numpy as np
from matplotlib.figure import Figure

from ..cells import Study, condition
from ..metrics import question_types
from .canvas import LeftOut, ink, panels


def rows(study: Study) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """
    Return the accuracy by type in per cent, and the row that all others are compared with.

    Returns:
        `tuple[dict[str, dict[str, float]], dict[str, float]]`: Row name -> accuracy by type, for the blind model,
        students, teachers and the oracle. The reference row: the student without a teacher, else the students' mean.
    """
    found = {
        f"{name} (reference)": question_types({"vqa": vqa})
        for name, vqa in references(study).items()
        if name != "oracle"
    }
    students, shown = {}, set()
    for axis, fewest in {"teacher": 1, "objective": 1, "duration": 2, "data": 2}.items():
        sweep = study.main_sweep(axis, fewest=fewest)
        for value, cells in (sweep.cells if sweep else {}).items():
            if (same := condition(cells[0])) not in shown and cells[0]["axes"]["teacher"] is not None:
                shown.add(same)
                name = "{objective} from {teacher}".format(**cells[0]["axes"])
                students[f"{name}, {value}" if axis in ("duration", "data") else name] = averaged(cells)
    sweep = study.main_sweep("teacher", fewest=1)
    alone = averaged(study.without_teacher(sweep.fixed) if sweep else study.read_first)
    students = {name: types for name, types in students.items() if types}
    found |= ({"no teacher": alone} if alone else {}) | students
    teachers = {f"teacher {name}": question_types(record) for name, record in study.record["teachers"].items()}
    found |= teachers | {"oracle (reference)": question_types({"vqa": references(study).get("oracle")})}
    return {name: types for name, types in found.items() if types}, alone or together(students.values())


def references(study: Study) -> dict[str, dict]:
    """Return name -> VQA metrics of the blind model and the oracle."""
    return study.record.get("references") or {}


def averaged(cells: list[dict]) -> dict[str, float]:
    return together(found for cell in cells if (found := question_types(cell)))


def together(rows) -> dict[str, float]:
    """Return the mean of each type."""
    rows = list(rows)
    return {kind: mean(row[kind] for row in rows) for kind in rows[0]} if rows else {}


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw the per cent right as numbers, and the difference to the student without a teacher as colour.

    Raises:
        LeftOut: The questions have no types, or no student was asked any.
    """
    found, reference = rows(study)
    if not reference:
        raise LeftOut("The questions of this study have no types, or no student was asked any.")
    kinds = list(reference)
    values = np.array([[row.get(kind, np.nan) for kind in kinds] for row in found.values()])
    differences = values - [reference[kind] for kind in kinds]
    students = [i for i, name in enumerate(found) if " from " in name]
    limit = max(1.0, float(np.nanmax(np.abs(differences[students])))) if students else 1.0
    names = [textwrap.fill(name, 20) if narrow else name for name in found]
    lines = 1 + max(name.count("\n") for name in names)
    figure, (axes,) = panels(1, narrow, height=1.4 + (0.1 + 0.17 * lines) * len(found))
    image = axes.imshow(differences, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if abs(differences[row, column]) > 0.6 * limit else "#1a1a1a"
            text = f"{value:.{0 if narrow else 1}f}"
            axes.text(column, row, text, ha="center", va="center", size=7.5, color=colour)
    axes.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds], rotation=90 if narrow else 30)
    axes.set_yticks(range(len(found)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", aspect=40)
    bar.set_label("points against no teacher")
    bar.outline.set_edgecolor(ink())
    return figure
