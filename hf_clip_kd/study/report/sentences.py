"""Parts of sentences: estimates with their unit, their direction and what would have been seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hub.cards.markdown import Markdown
from ..cells.metrics import Metric, signed
from ..estimates.comparison import Score
from ..estimates.power import detectable
from ..estimates.statistics import Estimate


def bounds(estimate: Estimate, digits: int = 2) -> str:
    """Return an interval as text, ` [+1.2, +3.4]`, with a space in front, or nothing without repetition."""
    if np.isnan(estimate.low):
        return ""
    return f" [{signed(estimate.low, digits)}, {signed(estimate.high, digits)}]"


def with_bounds(estimate: Estimate | None, digits: int = 2) -> Markdown:
    """Return a number with its sign and interval, `+2.3 [+1.2, +3.4]`, or `–` for none."""
    return Markdown("–" if estimate is None else signed(estimate.value, digits) + bounds(estimate, digits))


def part(share: Estimate) -> str:
    """Return a share of a lead with its interval, `0.45 [+0.31, +0.59]`."""
    return f"{share.value:.2f}{bounds(share)}".replace("-", "−")


def would_have_seen(what: str, size: float, digits: int, unit: str) -> str:
    """Return the smallest number that a test shows with power 0.8, as text, or nothing if that is not known."""
    return "" if np.isnan(size) else f"; a {what} of {size:.{digits}f}{unit} would have been seen"


def per(metric: Metric) -> str:
    """Return the step of a teacher's score that a slope is of, `each point that a teacher has more`."""
    unit = {"points": "point", "bits": "bit"}.get(metric.unit, "unit")
    return f"each {unit} that a teacher has {'fewer' if metric.lower_is_better else 'more'}"


def turned(estimate: Estimate) -> Estimate:
    """Return a slope for each unit less, instead of each unit more."""
    return replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)


def moved(estimate: Estimate, metric: Metric) -> str:
    """Return a trend as text, `rises by 0.60 points [+0.54, +0.67]`, or that no trend is clear."""
    digits, unit = (2 if metric.percent else 3), _unit(metric)
    if not estimate.clear:
        why = "shows no clear trend" if estimate.seeds > 1 else "has one seed, too few to tell a trend"
        size = detectable(estimate.error, estimate.freedom) if estimate.seeds > 1 else np.nan
        said = would_have_seen("trend", size, digits, unit)
        return f"{why} ({signed(estimate.value, digits)}{unit}{bounds(estimate, digits)}{said})"
    if metric.lower_is_better:
        verb = "gets better" if metric.better(estimate.value) > 0 else "gets worse"
    else:
        verb = "rises" if estimate.value > 0 else "falls"
    return f"{verb} by {abs(estimate.value):.{digits}f}{unit}{bounds(estimate, digits)}"


def against(score: Score) -> str:
    """
    Return a difference to a reference as text, `+1.2 points [+0.3, +2.1] (clear)`.

    All comparisons of the table are corrected for. Where less is better, `better by 0.12 bits` says the direction.
    """
    difference, metric = score.difference, score.metric
    digits, unit = (1 if metric.percent else 2), _unit(metric)
    seen = would_have_seen("difference", score.detectable, digits, unit)
    said = "clear" if score.mark else f"not clear{seen}"
    if not metric.lower_is_better:
        return f"{signed(difference.value, digits)}{unit}{bounds(difference, digits)} ({said})"
    better = metric.better(difference.value)
    ends = sorted(metric.better(end) for end in (difference.low, difference.high))
    interval = "" if np.isnan(difference.low) else f" [{', '.join(signed(end, digits) for end in ends)}]"
    word = "better" if better >= 0 else "worse"
    return f"{word} by {abs(better):.{digits}f}{unit}{interval} ({said})"


def _unit(metric: Metric) -> str:
    return f" {metric.unit}" if metric.unit else ""
