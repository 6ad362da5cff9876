"""Figures of a study's report, each a function from a [`Study`] to a drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from ..cells import Study
from . import cka_maps, cost, duration, probes, question_types, strength, transfer
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


# File name -> figure, in the order of the report.
FIGURES = {
    "strength": ReportFigure(
        "Does a better teacher make a better student?",
        "Each mark is the mean of students of one teacher, the faint ones are single seeds. To the right stand the "
        "teachers with the better zero-shot accuracy of their own. The line is the least-squares fit; its slope says "
        "how many points a student gains with each point of its teacher, with the 95% interval over seeds in "
        "brackets. The dotted line is the same student trained without a teacher.",
        strength.draw,
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
        "teacher, violet ones worse, white ones equal. `blind` sees no image, `oracle` is told what is in it.",
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
        "Rank correlation over all cells between a number that is cheap to measure and VQA accuracy: 1 if both put "
        "the students in the same order, −1 in the opposite one, 0 if they have nothing to do with each other. Lines "
        "are 95% intervals.",
        probes.draw,
        needs_vqa=True,
    ),
}

__all__ = ["FIGURES", "LeftOut", "ReportFigure", "save"]
