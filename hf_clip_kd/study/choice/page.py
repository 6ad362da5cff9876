"""The page, the figure and the JSON of a choice."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...hub.cards.markdown import Markdown, code, environment, table
from ...recipe_io.results import write_whole
from ..cells.metrics import signed
from ..estimates.statistics import Estimate
from ..report.figures.canvas import save
from ..report.report import FOLDER, picture
from ..report.sentences import bounds, with_bounds
from .figure import draw
from .pilots import ALONE
from .ranking import Pair, Ranking, Row
from .scores import TITLES

FIGURE, PAGE, NUMBERS = "teachers", "choice.md", "choice.json"


def write_choice(folder: Path, ranking: Ranking, failed: Sequence[tuple[str, str]], config: dict[str, Any]) -> str:
    """
    Write `choice.md`, `choice.json` and `figures/teachers*.svg` into a folder.

    Args:
        folder (`Path`): Output folder.
        ranking ([`Ranking`]): Teachers that were measured.
        failed (`Sequence[tuple[str, str]]`): Names of the others, each with the reason.
        config (`dict`): Arguments of the run.

    Returns:
        `str`: Text of the page, without the figure, for a terminal.
    """
    save(lambda narrow: draw(ranking, narrow), folder / FOLDER, FIGURE)
    record = {
        "metric": ranking.metric,
        "own_metric": ranking.own_metric,
        "seeds": ranking.seeds,
        "images": ranking.images,
        "detectable": ranking.detectable,
        "best": ranking.best,
        "teachers": [asdict(row) for row in ranking.rows],
        "pairs": [asdict(pair) | {"told_apart": pair.told_apart} for pair in ranking.pairs],
        "failed": dict(failed),
        "config": config,
    }
    write_whole(folder / NUMBERS, json.dumps(_plain(record), indent=1, allow_nan=False) + "\n")
    text = page(
        ranking,
        failed,
        Markdown("\n" + picture(f"{FOLDER}/{FIGURE}", "Scores of the students and of their teachers") + "\n"),
    )
    write_whole(folder / PAGE, text)
    return page(ranking, failed, None)


def page(ranking: Ranking, failed: Sequence[tuple[str, str]], figure: Markdown | None) -> str:
    """Return the page as Markdown."""
    text = (
        environment("study/choice/templates")
        .get_template("choice.md.jinja")
        .render(
            seeds=ranking.seeds,
            images=f"{ranking.images:,}",
            metric=TITLES[ranking.metric],
            table=ranking_table(ranking),
            findings=[Markdown(sentence) for sentence in findings(ranking)],
            detectable=None if math.isnan(ranking.detectable) else f"{ranking.detectable:.1f}",
            alike=[Markdown(_alike(pair)) for pair in ranking.pairs if not pair.told_apart],
            failed=table(["teacher", "reason"], [(code(name), reason) for name, reason in failed]) if failed else None,
            figure=figure,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def ranking_table(ranking: Ranking) -> Markdown:
    """Return the table of all rows, the best first."""
    rows = ranking.rows
    others = [name for name in TITLES if name != ranking.metric and all(name in row.pilots for row in rows)]
    own = [name for name in TITLES if any(name in row.own for row in rows)]
    free = [name for name in TITLES if any(name in row.training_free for row in rows)]
    header = ["teacher", f"student: {TITLES[ranking.metric]}", "above alone", "alike"]
    header += [f"student: {TITLES[name]}" for name in others] + [f"teacher: {TITLES[name]}" for name in own]
    header += [TITLES[name] for name in free] + ["s per pilot"]
    return table(header, [_cells(ranking, row, others, own, free) for row in rows])


def _cells(ranking: Ranking, row: Row, others: list[str], own: list[str], free: list[str]) -> list[Any]:
    return [
        Markdown(ALONE) if row.name == ALONE else code(row.name),
        _percent(row.pilots[ranking.metric]),
        with_bounds(row.gain, 1),
        Markdown(row.letters),
        *(Markdown(f"{_percent(row.pilots[name])} {row.other_letters[name]}") for name in others),
        *(_percent(row.own[name]) if name in row.own else Markdown("–") for name in own),
        *(Markdown(f"{row.training_free[name]:.3f}") if name in row.training_free else Markdown("–") for name in free),
        Markdown("–" if row.seconds is None else f"{row.seconds:.0f}"),
    ]


def findings(ranking: Ranking) -> list[str]:
    """Return what the numbers say, in sentences."""
    best, first = ranking.best, next(row for row in ranking.rows if row.name != ALONE)
    said = [f"The student of {code(first.name)} has the highest score, {_percent(first.pilots[ranking.metric])} %."]
    if len(best) > 1:
        said.append(
            f"{_listed([code(name) for name in best[1:]])} cannot be told from it with this much data. "
            "So any of them may be the best."
        )
    elif len(ranking.rows) > 2:
        said.append("It is clearly better than that of each other teacher.")
    alike = [pair for pair in ranking.pairs if ALONE in (pair.first, pair.second) and not pair.told_apart]
    worse = [pair.second for pair in ranking.pairs if pair.first == ALONE and pair.told_apart]
    helpless = [pair.first if pair.second == ALONE else pair.second for pair in alike]
    if helpless:
        said.append(f"No clear gain over the student alone: {_listed([code(name) for name in helpless])}.")
    if worse:
        said.append(f"Clearly worse than the student alone: {_listed([code(name) for name in worse])}.")
    return said


def _alike(pair: Pair) -> str:
    """Return a pair that cannot be told apart, its difference, and what would show it."""
    points = f"{signed(pair.difference.value, 1)} points{bounds(pair.difference, 1)}"
    more = []
    if pair.seeds_needed is not None:
        more.append(f"{pair.seeds_needed} seeds")
    if pair.images_needed is not None:
        more.append(f"{pair.images_needed:,} held-out images")
    if pair.difference.seeds == 1:
        advice = "One seed tells no teachers apart; take three at least."
    elif more:
        advice = f"If it is as large as that, about {' or '.join(more)} would show it."
    else:
        advice = "To show so small a difference, it needs more seeds and more images at once."
    return f"{_name(pair.first)} and {_name(pair.second)}: {points}. {advice}"


def _name(name: str) -> str:
    return "the student alone" if name == ALONE else code(name)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _percent(estimate: Estimate) -> Markdown:
    """Return `61.2 [59.8, 62.6]`."""
    around = "" if math.isnan(estimate.low) else f" [{estimate.low:.1f}, {estimate.high:.1f}]"
    return Markdown(f"{estimate.value:.1f}{around}".replace("-", "−"))


def _plain(value: Any) -> Any:
    """Return JSON's types; what is not known is `null`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
