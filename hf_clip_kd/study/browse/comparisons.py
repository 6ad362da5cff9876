"""Every pair of runs, compared over the questions that both were asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ..cells.metrics import signed
from ..cells.samples import Answered, Key
from ..estimates.power import LEVEL
from ..estimates.statistics import holm
from ..estimates.two_models import BITS, Pair, Summarize, compare_models
from .questions import Run


@dataclass(frozen=True)
class Comparison:
    """Two runs in a benchmark."""

    benchmark: str = field(metadata={"help": "Name of the benchmark."})
    first: str = field(metadata={"help": "Name of the first run."})
    second: str = field(metadata={"help": "Name of the second run."})
    pair: Pair = field(metadata={"help": "Their numbers."})
    numbers: dict[str, Any] = field(metadata={"help": "Counts, see [`compare_models`]."})
    p_value: float = field(metadata={"help": "p-value of the pair, adjusted for the number of comparisons."})

    def cells(self) -> dict[str, str | int]:
        """Return what a table shows of it, by column."""
        pair, difference = self.pair, self.pair.difference
        digits = pair.digits
        known = not math.isnan(difference.low)
        interval = f"[{signed(difference.low, digits)}, {signed(difference.high, digits)}]" if known else "–"
        units = self.numbers["units"]
        return {
            "benchmark": self.benchmark,
            "number": pair.what,
            "A": f"{self.first}: {pair.first:.2f}",
            "B": f"{self.second}: {pair.second:.2f}",
            "B − A": signed(difference.value, digits),
            "95 % interval": interval,
            "p": "<0.001" if self.p_value < 0.001 else f"{self.p_value:.3f}",
            "clear": "yes" if self.p_value < LEVEL else "no",
            "shown from": "–" if math.isnan(pair.detectable) else f"{pair.detectable:.{digits}f}",
            "A better": self.numbers["first_alone"],
            "B better": self.numbers["second_alone"],
            "questions": self.numbers["questions"],
            "drawn": f"{units} {self.numbers['unit']}s" if units else "–",
        }


def compare_runs(runs: Sequence[Run], summarize: Summarize | None = None) -> list[Comparison]:
    """
    Compare each pair of runs in each benchmark, question by question ([`compare_models`]).

    The p-values of all comparisons of accuracy are adjusted together ([`holm`]). So are those of bits, and those of
    numbers that papers quote. Questions without a score are left out.

    Args:
        runs (sequence of [`Run`]): Models.
        summarize (`Callable`, *optional*): See [`compare_models`].
    """
    found: list[tuple[str, str, str, Pair, dict[str, Any]]] = []
    for benchmark in dict.fromkeys(benchmark for run in runs for benchmark in run.answers):
        for first, second in combinations(runs, 2):
            both = [_scored(run.answers.get(benchmark, {})) for run in (first, second)]
            if both[0].keys() & both[1].keys():
                records = first.records[benchmark], second.records[benchmark]
                pairs, numbers = compare_models(*both, {}, records=records, summarize=summarize)
                found += [(benchmark, first.name, second.name, pair, numbers) for pair in pairs]
    adjusted = {}
    for kind in dict.fromkeys(_kind(pair) for *_, pair, _ in found):
        places = [i for i, (*_, pair, _) in enumerate(found) if _kind(pair) == kind]
        adjusted |= dict(zip(places, holm([found[i][3].p_value for i in places]), strict=True))
    return [Comparison(*entry, float(adjusted[i])) for i, entry in enumerate(found)]


def _kind(pair: Pair) -> str:
    return pair.what if pair.what in ("accuracy", BITS) else "quoted"


def _scored(answers: dict[Key, Answered]) -> dict[Key, Answered]:
    return {key: answered for key, answered in answers.items() if answered.score is not None}
