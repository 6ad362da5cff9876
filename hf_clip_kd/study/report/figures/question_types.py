"""Accuracy by kind of question, compared with the student without a teacher and of equal training."""

from __future__ import annotations

import textwrap
from statistics import mean

import numpy as np
from matplotlib.figure import Figure

from ...cells.cells import Study, condition
from ...cells.metrics import changed_captions, question_types
from .canvas import LeftOut, ink, panels

# Axes that a name shows if they differ between rows, beside objective and teacher.
OTHERS = ("student", "duration", "data", "language_model", "reading")


def rows(study: Study) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """
    Return the accuracy by type in per cent, and what each row is compared with. Types are [`kinds_of`].

    Returns:
        `tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]`: Row name -> accuracy by type, for the blind
        model, students, teachers and the oracle. Row name -> the same of the student without a teacher and of equal
        training. Teachers and references are compared with the first such student. Without any, all rows are compared
        with the students' mean.
    """
    conditions: dict[tuple, list[dict]] = {}
    for axis, fewest in {"teacher": 1, "objective": 1, "duration": 2, "data": 2}.items():
        sweep = study.main_sweep(axis, fewest=fewest)
        for cells in (sweep.cells if sweep else {}).values():
            if cells[0]["axes"]["teacher"] is not None:
                conditions.setdefault(condition(cells[0]), cells)
    alike = {key: study.without_teacher(cells[0]["axes"]) for key, cells in conditions.items()}
    alone = {condition(cells[0]): cells for cells in alike.values() if cells}
    if not conditions:
        alone = {condition(study.read_first[0]): study.read_first}
    shown = alone | conditions
    varying = [axis for axis in OTHERS if len({cells[0]["axes"].get(axis) for cells in shown.values()}) > 1]
    types = {key: found for key, cells in shown.items() if (found := averaged(cells))}
    first = next((types[key] for key in alone if key in types), together(types.values()))
    names = {key: _name(cells[0]["axes"], varying) for key, cells in shown.items()}
    own = {names[key]: averaged(alike.get(key, shown[key])) or first for key in types}
    found = {
        f"{name} (reference)": question_types({"vqa": vqa})
        for name, vqa in references(study).items()
        if name != "oracle"
    }
    found |= {names[key]: values for key, values in types.items()}
    found |= {f"teacher {name}": kinds_of(record) for name, record in study.record["teachers"].items()}
    found["oracle (reference)"] = question_types({"vqa": references(study).get("oracle")})
    found = {name: values for name, values in found.items() if values}
    return found, {name: own.get(name, first) for name in found}


def _name(axes: dict, varying: list[str]) -> str:
    student = "no teacher" if axes["teacher"] is None else "{objective} from {teacher}".format(**axes)
    return ", ".join([student, *(str(axes[axis]) for axis in varying if axes.get(axis) is not None)])


def references(study: Study) -> dict[str, dict]:
    """Return name -> VQA metrics of the blind model and the oracle."""
    return study.record.get("references") or {}


def averaged(cells: list[dict]) -> dict[str, float]:
    return together(found for cell in cells if (found := kinds_of(cell)))


def kinds_of(cell: dict) -> dict[str, float]:
    """Return the accuracy of each type of question, then the text score of each kind of changed caption."""
    captions = {f"caption, {kind}": value for kind, value in changed_captions(cell).items()}
    return question_types(cell) | captions


def together(rows) -> dict[str, float]:
    """Return the mean of each type."""
    rows = list(rows)
    return {kind: mean(row[kind] for row in rows) for kind in rows[0]} if rows else {}


def draw(study: Study, narrow: bool) -> Figure:
    """
    Draw the per cent right as numbers, and the difference to the same student without a teacher as colour.

    Raises:
        LeftOut: The questions have no types, or no student was asked any.
    """
    found, compared = rows(study)
    kinds = list(next(iter(compared.values()), {}))
    if not kinds:
        raise LeftOut("The questions of this study have no types, or no student was asked any.")
    values = np.array([[row.get(kind, np.nan) for kind in kinds] for row in found.values()])
    differences = values - [[compared[name][kind] for kind in kinds] for name in found]
    students = [i for i, name in enumerate(found) if " from " in name]
    limit = max(1.0, float(np.nanmax(np.abs(differences[students])))) if students else 1.0
    names = [textwrap.fill(name, 20 if narrow else 24) for name in found]
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
