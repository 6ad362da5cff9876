"""Figures of a study's report, each a function from a [`Study`] to a drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from ...cells.cells import Study
from ...estimates.objective_results import asked
from ..image_tokens import token_sweeps
from . import (
    cka_maps,
    cost,
    curves,
    duration,
    image_tokens,
    objective_students,
    objectives,
    probes,
    question_types,
    strength,
    transfer,
)
from .canvas import LeftOut, save


@dataclass(frozen=True)
class ReportFigure:
    """A figure with its heading and caption."""

    title: str = field(metadata={"help": "Its heading."})
    caption: str = field(metadata={"help": "Description of the drawing for somebody who never saw the code."})
    draw: Callable[[Study, bool], Figure] = field(
        metadata={"help": "Takes the study and `True` for a phone; raises `LeftOut` if the study lacks the cells."}
    )
    needs_vqa: bool = field(default=False, metadata={"help": "Not in the report of a study without a language model."})
    needs_objectives: bool = field(
        default=False, metadata={"help": "Not in the report of a study whose objectives have no slopes to compare."}
    )
    needs_tokens: bool = field(
        default=False, metadata={"help": "Not in the report of a study with one number of image tokens."}
    )
    needs_curves: bool = field(default=False, metadata={"help": "Not in the report of a study without curves."})


# File name -> figure, in the order of the report.
FIGURES = {
    "strength": ReportFigure(
        "Does a better teacher make a better student?",
        "Each mark is the mean of students of one teacher, the faint ones are single seeds. To the right stand the "
        "teachers with the better zero-shot accuracy of their own. The line is the least-squares fit; its slope says "
        "how many points a student gains with each point of its teacher, with the 95% interval over seeds in "
        "brackets. Where teachers differ in size, open marks are those of another size, and the solid line is fitted "
        "to teachers of equal size alone. The dotted line is the same student trained without a teacher.",
        strength.draw,
    ),
    "own_scores": ReportFigure(
        "Does a student follow its teacher's own score?",
        "The same students, against what their teachers get themselves in the same metric. A slope of 1 would keep "
        "all of a teacher's lead over the next, a slope of 0 nothing.",
        strength.draw_own,
        needs_vqa=True,
    ),
    "objectives": ReportFigure(
        "Which objective hands a better teacher on?",
        "First panel: points that a student gains with each point of its teacher in the same score. Second: how much "
        "more that is than with the base objective, for the same teachers and seeds. Third: share of the strongest "
        "teacher's lead over the student alone that arrives; the dotted line is the share that is wanted. Marks are "
        "scores, lines are 95% intervals.",
        objectives.draw,
        needs_objectives=True,
    ),
    "objective_students": ReportFigure(
        "The students of each objective",
        "Upper panels: each mark is the mean of the students of one teacher and objective, over what the teacher gets "
        "itself. Open marks are teachers of another size, which no line is fitted to. On the dashed line a student "
        "would equal its teacher; the dotted line is the student without a teacher. Lower panels: gain over that "
        "student with the same strong teacher, against the seconds that training the student took, on a "
        "logarithmic axis; a line joins trainings of several lengths. Crosses are the student without a teacher.",
        objective_students.draw,
        needs_objectives=True,
    ),
    "curves": ReportFigure(
        "How soon a language model reads a tower",
        "Scores of one vision-language model after more and more steps of its training, for each tower it reads. "
        "A tower whose curve rises earlier is easier to read; the end of a curve says how much was read at last. "
        "Dotted: untrained. Dashed: teachers. Solid: students.",
        curves.draw,
        needs_vqa=True,
        needs_curves=True,
    ),
    "image_tokens": ReportFigure(
        "Which student survives fewer tokens?",
        "Score of the vision-language model against the number of tokens that it gets of an image, on a logarithmic "
        "axis. Bars are standard deviations over seeds.",
        image_tokens.draw,
        needs_vqa=True,
        needs_tokens=True,
    ),
    "transfer": ReportFigure(
        "What a student lacks to its teacher (the paper's Figure 2)",
        "How far the student lies below (left of zero) or above the teacher that it was distilled from, in points. "
        "The two numbers under a teacher's name are its own score and its student's. Black lines are 95% intervals "
        "over seeds.",
        transfer.draw,
    ),
    "duration": ReportFigure(
        "Longer training (the paper's Figure 3)",
        "Scores of the students, and how like their teacher's their representation is (CKA, 1 is the same up to "
        "rotation and size), against the length of the distillation. Bars are standard deviations over seeds, small "
        "dots are single seeds.",
        duration.draw,
    ),
    "question_types": ReportFigure(
        "Kinds of question",
        "Per cent of the questions answered right, by kind. Orange fields are better than the student without a "
        "teacher and of equal training, violet ones worse, white ones equal. Teachers and references are compared "
        "with the first `no teacher`. `blind` sees no image, `oracle` is told what is in it.",
        question_types.draw,
        needs_vqa=True,
    ),
    "cka_maps": ReportFigure(
        "Which layers are alike",
        "Likeness (CKA) of each layer of a student with each layer of its teacher, from 0, dark blue, to 1, yellow; "
        "mean over seeds. Layer 0 is the embedding of the patches.",
        cka_maps.draw,
    ),
    "cost": ReportFigure(
        "What a score costs",
        "Scores against the size and the speed of the vision encoder. Large marks are means, dashes are single cells. "
        "Further left is smaller (upper panels), further right is faster (lower panels).",
        cost.draw,
    ),
    "probes": ReportFigure(
        "Which cheap probe predicts VQA?",
        "Rank correlation over all cells between a number that is cheap to measure and VQA: 1 if both put "
        "the students in the same order, −1 in the opposite one, 0 if they have nothing to do with each other. Lines "
        "are 95% intervals.",
        probes.draw,
        needs_vqa=True,
    ),
}


def figures_of(study: Study) -> dict[str, ReportFigure]:
    """Return the figures of a study's report, by file name; some may lack their cells."""
    curves_known = any(cell.get("curve") for cell in study.cells)
    compared, several = bool(asked(study)), bool(token_sweeps(study))
    return {
        name: figure
        for name, figure in FIGURES.items()
        if (study.has_vqa or not figure.needs_vqa)
        and (curves_known or not figure.needs_curves)
        and (several or not figure.needs_tokens)
        and (compared or not figure.needs_objectives)
    }


__all__ = ["FIGURES", "LeftOut", "ReportFigure", "figures_of", "save"]
