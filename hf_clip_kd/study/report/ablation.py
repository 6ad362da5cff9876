"""Each loss alone and together with the task, and the gain over the task alone."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
from scipy import stats

from ...hub.cards.markdown import Markdown, code, escape
from ...losses.specification import expanded
from ..cells.cells import Study
from ..cells.metrics import IMAGE_RETRIEVAL, TEXT_RETRIEVAL, ZERO_SHOT, Metric
from ..estimates.statistics import CONFIDENCE, Estimate
from .sentences import with_bounds

TASK = "clip"
# Scores of a cell, each with its name in a column.
SCORES = {ZERO_SHOT: "acc1", IMAGE_RETRIEVAL: "image R@1", TEXT_RETRIEVAL: "text R@1"}
MEANS = {1: "that score", 2: "the mean of the two scores", 3: "the mean of the three scores"}
Pair = tuple[str | None, str | None]


def ablation_table(study: Study) -> Markdown | None:
    """
    Return the mean ± standard deviation over the seeds of each objective, and its gain over the task.

    Reads the cells of the first student, duration and data, of the first teacher and of none. The scores are those of
    zero-shot and retrieval that all of these have.

    Returns:
        `Markdown`: `None` if the study compares no loss with the task alone, or its cells share no score.
    """
    objectives = study.record["config"].get("objectives") or {}
    pairs = objective_pairs(objectives)
    if not any(None not in pair for pair in pairs.values()):
        return None
    task = next((name for name, losses in objectives.items() if set(expanded(losses)) == {TASK}), None)
    done, failed = _by_objective(study, study.read_first), _by_objective(study, study.failed)
    cells = [cell for group in done.values() for cell in group]
    metrics = [metric for metric in SCORES if all(metric.of(cell) is not None for cell in cells)]
    if task not in done or not metrics:
        return None
    judged = {name: done.get(both) or done.get(alone, []) for name, (alone, both) in pairs.items()}
    gains = gains_over(done[task], judged, metrics)
    lines = [_caption(study, cells, metrics), "", *_header(metrics)]
    for name, (alone, both) in pairs.items():
        groups = [(done.get(objective, []), failed.get(objective, [])) for objective in (alone, both)]
        scores = [text for cells, errors in groups for text in _scores(cells, bool(errors), metrics)]
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


def gains_over(
    control: list[dict], groups: dict[str, list[dict]], metrics: Sequence[Metric] = tuple(SCORES)
) -> dict[str, Estimate]:
    """
    Return the gain of each group of cells over the control in the mean of the scores, by Dunnett's test.

    All groups share one variance between seeds, since that of three seeds alone says little. Intervals and p-values
    hold for all gains at once ([Dunnett 1955](https://doi.org/10.1080/01621459.1955.10501294)).

    Args:
        control (`list[dict]`): Cells of the task alone.
        groups (`dict[str, list[dict]]`): Name to the cells of an objective.
        metrics (`Sequence[Metric]`, *optional*): Scores that all cells have.

    Returns:
        `dict[str, Estimate]`: Name to gain. Groups of a single cell are missing, as all are without a second control.
    """

    def means(cells: list[dict]) -> list[float]:
        return [mean(metric.of(cell) for metric in metrics) for cell in cells]

    base, found = means(control), {name: means(cells) for name, cells in groups.items() if cells != control}
    found = {name: values for name, values in found.items() if len(values) > 1}
    if not found or len(base) < 2:
        return {}
    numbers = zip(found.items(), *_dunnett(list(found.values()), base), strict=True)
    return {
        name: Estimate(mean(values) - mean(base), float(low), float(high), float(p_value), len(values))
        for (name, values), low, high, p_value in numbers
    }


def verdict(gain: Estimate | None) -> list[str]:
    """Return a gain over the task with its interval, and if that is more than chance."""
    if gain is None:
        return ["–", "–"]
    return [with_bounds(gain, 1), ("yes" if gain.value > 0 else "no, it hurts") if gain.clear else "not clear"]


def _dunnett(groups: list[list[float]], control: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the lower ends, the upper ends and the p-values of Dunnett's test.

    Scipy searches for the interval by p-values of random draws. The search sometimes ends at another level, such as
    95.3%, and scipy warns. Then this function takes the next seed.
    """
    for seed in itertools.count():
        test = stats.dunnett(*groups, control=control, rng=np.random.default_rng(seed))
        with warnings.catch_warnings(), contextlib.suppress(UserWarning):
            warnings.simplefilter("error", UserWarning)
            interval = test.confidence_interval(CONFIDENCE)
            return interval.low, interval.high, test.pvalue


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


def _header(metrics: Sequence[Metric]) -> tuple[str, str]:
    names = " | ".join(SCORES[metric] for metric in metrics)
    header = f"| objective | alone: {names} | with `{TASK}`: {names} | gain | helps? |"
    return header, "|---" * (3 + 2 * len(metrics)) + "|"


def _scores(cells: list[dict], failed: bool, metrics: Sequence[Metric]) -> list[str]:
    if not cells:
        return ["failed" if failed else "–"] * len(metrics)
    return [metric.show_mean([metric.of(cell) for cell in cells]) for metric in metrics]


def _caption(study: Study, cells: list[dict], metrics: Sequence[Metric]) -> str:
    seeds = sorted({cell["axes"]["seed"] for cell in cells})
    axes, first = cells[0]["axes"], cells[0]
    text = f"Per cent, mean ± standard deviation over the seeds {', '.join(map(str, seeds))}. "
    text += f"Student {code(axes['student'])}, {first['steps']} steps "
    text += f"({first['epochs']:.2g} epochs of {code(axes['data'])})"
    teacher = next((cell["axes"]["teacher"] for cell in cells if cell["axes"]["teacher"] is not None), None)
    if teacher is not None:
        own = ", ".join(f"{study.teacher_score(teacher, metric):.1f}" for metric in metrics)
        text += f", teacher {code(teacher)}, which scores {own}"
    return (
        f"{text}.\n`gain`: the difference to `clip` in {MEANS[len(metrics)]} (with `clip` where there is such "
        "a run, else alone). Its 95% interval is that of Dunnett's test: one variance for all rows, and all intervals "
        "hold at once. An objective helps if its interval lies above 0."
    )
