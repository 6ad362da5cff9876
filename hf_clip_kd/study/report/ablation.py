"""Each loss alone and together with the task, and the gain over the task alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ...hub.cards.markdown import Markdown, code, escape
from ...losses.specification import expanded
from ..cells.cells import Study
from ..cells.metrics import IMAGE_RETRIEVAL, TEXT_RETRIEVAL, ZERO_SHOT, Metric, signed
from ..estimates.comparison import Score, scored
from .sentences import bounds, would_have_seen

TASK = "clip"
SCORES = (ZERO_SHOT, IMAGE_RETRIEVAL, TEXT_RETRIEVAL)
HEADER = (
    "| objective | alone: acc1 | image R@1 | text R@1 | with `clip`: acc1 | image R@1 | text R@1 | gain | helps? |",
    "|---|---|---|---|---|---|---|---|---|",
)
Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class Mean(Metric):
    """Mean of the three scores of a cell."""

    def of(self, cell: dict[str, Any]) -> float | None:
        return mean(metric.of(cell) for metric in SCORES)


MEAN = Mean("mean of the three scores", (), "mean")


def ablation_table(study: Study) -> Markdown | None:
    """
    Return the mean ± standard deviation over the seeds of each objective, and its gain over the task.

    Reads the cells of the first student, duration and data, of the first teacher and of none.

    Returns:
        `Markdown`: `None` if the study compares no loss with the task alone.
    """
    objectives = study.record["config"].get("objectives") or {}
    pairs = objective_pairs(objectives)
    if not any(None not in pair for pair in pairs.values()):
        return None
    task = next((name for name, losses in objectives.items() if set(expanded(losses)) == {TASK}), None)
    done, failed = _by_objective(study, study.read_first), _by_objective(study, study.failed)
    if task not in done:
        return None
    judged = {name: done.get(both) or done.get(alone, []) for name, (alone, both) in pairs.items()}
    gains = scored(judged, task, MEAN)
    lines = [_caption(study, done), "", *HEADER]
    for name, (alone, both) in pairs.items():
        groups = [(done.get(objective, []), failed.get(objective, [])) for objective in (alone, both)]
        scores = [text for cells, errors in groups for text in _scores(cells, bool(errors))]
        lines.append(f"| {' | '.join([code(name), *scores, *verdict(gains.get(name))])} |")
    errors = [cell for cells in failed.values() for cell in cells]
    if errors:
        lines.append("")
    for cell in errors:
        axes, reason = cell["axes"], cell["error"].strip().splitlines()[-1][:200]
        lines.append(f"{code(axes['objective'])} failed with seed {axes['seed']}: {escape(reason)}")
    return Markdown("\n".join(lines))


def objective_pairs(objectives: dict[str, Any]) -> dict[str, Pair]:
    """
    Return the objectives of each row: the one without the task, and the one that adds the task to it.

    Args:
        objectives (`dict`): Name to losses, as the YAML of a study has them.

    Returns:
        `dict[str, tuple[str | None, str | None]]`: by the name of the objective without the task, where there is one.
    """
    terms = {name: expanded(losses) for name, losses in objectives.items()}
    without = {name: {loss: spec for loss, spec in losses.items() if loss != TASK} for name, losses in terms.items()}
    with_task = [name for name, losses in terms.items() if TASK in losses]
    partners = {
        name: next((other for other in with_task if without[other] == losses), None)
        for name, losses in terms.items()
        if TASK not in losses
    }
    pairs: dict[str, Pair] = {}
    for name in terms:
        if name in partners:
            pairs[name] = name, partners[name]
        elif name not in partners.values():
            pairs[name] = None, name
    return pairs


def verdict(gain: Score | None) -> list[str]:
    """Return a gain over the task with its interval, and if that is more than chance."""
    if gain is None or gain.difference is None:
        return ["–", "–"]
    told = f"{signed(gain.difference.value, 1)}{bounds(gain.difference, 1)}"
    if gain.difference.seeds < 2:
        return [told, "one seed cannot tell"]
    seen = would_have_seen("gain", gain.detectable, 1, "")
    return [told, {"▲": "yes", "▼": "no, it hurts"}.get(gain.mark, f"not clear{seen}")]


def _by_objective(study: Study, cells: list[dict]) -> dict[str, list[dict]]:
    first = study.cells[0]["axes"]
    teachers = [cell["axes"]["teacher"] for cell in [*study.cells, *study.failed]]
    teacher = next((teacher for teacher in teachers if teacher is not None), None)
    found: dict[str, list[dict]] = {}
    for cell in cells:
        axes = cell["axes"]
        same = all(axes[axis] == first[axis] for axis in ("student", "duration", "data", "language_model"))
        if same and axes["teacher"] in (None, teacher):
            found.setdefault(axes["objective"], []).append(cell)
    return found


def _scores(cells: list[dict], failed: bool) -> list[str]:
    if not cells:
        return ["failed" if failed else "–"] * len(SCORES)
    texts = []
    for metric in SCORES:
        values = [metric.of(cell) for cell in cells]
        texts.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
    return texts


def _caption(study: Study, done: dict[str, list[dict]]) -> str:
    cells = [cell for cells in done.values() for cell in cells]
    seeds = sorted({cell["axes"]["seed"] for cell in cells})
    axes, first = cells[0]["axes"], cells[0]
    text = f"Per cent, mean ± standard deviation over the seeds {', '.join(map(str, seeds))}. "
    text += f"Student {code(axes['student'])}, {first['steps']} steps "
    text += f"({first['epochs']:.2g} epochs of {code(axes['data'])})"
    teacher = next((cell["axes"]["teacher"] for cell in cells if cell["axes"]["teacher"] is not None), None)
    if teacher is not None:
        own = ", ".join(f"{study.teacher_score(teacher, metric):.1f}" for metric in SCORES)
        text += f", teacher {code(teacher)}, which scores {own}"
    return (
        f"{text}.\n`gain`: the difference to `clip` in the mean of the three scores (with `clip` where there is such "
        "a run, else alone), paired by seed, with its 95% interval. An objective helps if p < 0.05 after Holm's "
        "correction for all rows. A gain “would have been seen” if eight of ten such studies would call it clear."
    )
