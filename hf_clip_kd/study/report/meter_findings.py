"""Findings on the measurement: what tokens hold, how soon they are read, and how good the meter itself is."""

from __future__ import annotations

from ...hub.cards.markdown import code, escape
from ...recipe_io.learning_curve import steps_to
from ..cells.cells import AXES, Study
from ..cells.metrics import QUESTION_PROBE, VQA, ZERO_SHOT, Metric
from ..estimates.curves import lines
from ..estimates.gauges import curve_steps
from ..estimates.grading import ALL, GRADED, grades
from ..estimates.lead import shares
from ..estimates.meter import ALONE, UNTRAINED, Row, cheapest, meter_rows, used, whole_ladder
from ..estimates.slopes import teachers_slope
from .sentences import bounds, moved, per, turned

MOST_SHARES = 3


def about_holding(study: Study) -> str | None:
    """Return what the students' tokens hold, without any language model, and if the probe has too few images."""
    text = _slopes(study, QUESTION_PROBE, "What the tokens hold", "A probe reads them without a language model.")
    rising = [cell for cell in study.read_first if (cell.get("question_probe") or {}).get("vqa", {}).get("rising")]
    if text and rising:
        text += (
            f" In {len(rising)} of {len(study.read_first)} cells it still rose by more than a point at the last "
            "doubling of its images: these tokens hold more than it says."
        )
    return text


def about_reading(study: Study) -> str | None:
    """Return how well, and how soon, a language model reads the students' tokens."""
    if study.meter == QUESTION_PROBE or not study.has_vqa:
        return None
    text = _slopes(study, study.meter, "How well a language model reads them", "")
    found = {line.label: line for line in lines(study)}
    if ALONE not in found:
        return text
    steps = curve_steps([record for line in found.values() for record in line.records])
    target = float(found[ALONE].values(VQA)[-1])
    reached = {
        name: steps_to(steps, line.values(VQA), target)
        for name, line in found.items()
        if name not in (ALONE, UNTRAINED)
    }
    said = [
        f"{escape(name)} reaches them at step {step:.0f}" if step is not None else f"{escape(name)} never does"
        for name, step in reached.items()
    ]
    if not said:
        return text
    soon = f"With the student alone {steps[-1]} steps give {target:.1f} % of answers right; {', '.join(said)}."
    return f"{text} {soon}" if text else f"**How soon a language model reads them.** {soon}"


def _slopes(study: Study, metric: Metric, title: str, lead: str) -> str | None:
    """Return the slope of a score over the teachers' zero-shot accuracy, and over their own score in the same."""
    said = [
        f"with {per(against)} in {'its own ' if against == metric else ''}{against.title}, "
        f"the student's {metric.title} {moved(turned(fit) if against.lower_is_better else fit, metric)}"
        for against in dict.fromkeys((ZERO_SHOT, metric))
        if (fit := teachers_slope(study, metric, against)) is not None
    ]
    if not said:
        return None
    text = "; ".join(said)
    return f"**{title}.** {f'{lead} ' if lead else ''}{text[0].upper()}{text[1:]}."


def about_lead(study: Study) -> str | None:
    """Return the share of the strongest teacher's lead that arrives, of its first objectives."""
    found = {metric: shares(study, metric) for metric in dict.fromkeys((study.meter, QUESTION_PROBE))}
    first = {"reading": study.reading, "language_model": study.cells[0]["axes"].get("language_model")}
    keys = [key for key in found[study.meter] if all(key[AXES.index(axis)] == name for axis, name in first.items())]
    teacher = max((key[0] for key in keys), key=study.strength, default=None)
    said = []
    for key in [key for key in keys if key[0] == teacher][:MOST_SHARES]:
        parts = [
            f"{share.value:.2f}{bounds(share)} in {metric.title}"
            for metric, by_key in found.items()
            if (share := by_key.get(key)) is not None
        ]
        name = ", ".join(str(key[AXES.index(axis)]) for axis in ("objective", "duration", "data"))
        said += [f"{code(name)} {' and '.join(parts)}"] if parts else []
    if not said:
        return None
    return (
        f"**Share of the lead.** The strongest teacher, {code(teacher)}, leads the student alone. These shares of its "
        f"lead arrive: with {'; '.join(said)}."
    )


def about_types(study: Study) -> str | None:
    """Return the types of question that measure little, with their reasons."""
    found = [grade for grade in grades(study) if grade.kind != ALL]
    if not study.has_vqa or not found or "oracle" not in found[0].scores:
        return None
    good = [grade for grade in found if grade.verdict == GRADED]
    others = "; ".join(f"{code(grade.kind)}: {escape(grade.verdict)}" for grade in found if grade not in good)
    text = f"**Kinds of question.** {len(good)} of {len(found)} tell towers apart under an oracle that is a ceiling"
    text += f". The others: {others}." if others else "."
    ungraded = study.record["config"].get("ungraded") or {}
    if ungraded:
        text += f" The VQA numbers of this report leave out {', '.join(code(kind) for kind in ungraded)}."
    return text


def about_meter(study: Study) -> str | None:
    """Return the cheapest meter that keeps the ladder, and the one that the findings use."""
    if not study.has_vqa or not any(row.cases for row in meter_rows(study)):
        return None
    best, reader, mine = cheapest(study), cheapest(study, read=True), used(study)
    ladder = " < ".join(map(escape, whole_ladder(study)))
    if best is None:
        text = f"No meter of the table was seen to keep the order {ladder} in every case."
    else:
        text = f"The cheapest that keeps the order {ladder} in each of {best.cases} cases"
        text += f" is {name(best)}: {_cost(best)}."
        if reader not in (best, None):
            text += f" Of those that a language model reads it is {name(reader)}: {_cost(reader)}."
    if mine is not None:
        same = best is not None and mine == (reader or best)
        text += f" The findings use {'it' if same else name(mine) + _order(mine) + _noise(mine)}."
    return f"**The meter.** {text}"


def name(row: Row) -> str:
    """Return a row's name as Markdown, `VQA accuracy at 250 steps (frozen)`."""
    return row.gauge.title + (f" ({escape(row.reading)})" if row.reading else "")


def _cost(row: Row) -> str:
    cost = "its cost was not measured" if row.seconds is None else f"{row.seconds:.0f} seconds for a tower"
    return cost + _noise(row)


def _order(row: Row) -> str:
    return f", which keeps the order in {row.kept} of {row.cases} cases" if row.cases else ""


def _noise(row: Row) -> str:
    if row.vlm_deviation is None:
        return ""
    unit = f" {row.gauge.metric.unit}" if row.gauge.metric.unit else ""
    text = f", with a standard deviation of {row.vlm_deviation:.2f}{unit} between VLM seeds"
    return text if row.paired_deviation is None else f"{text}, of which {row.paired_deviation:.2f} at equal seeds"
