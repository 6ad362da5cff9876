"""Forecast the time of a study from the estimates in its YAML, corrected by measured times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from .stages import Stage


class Forecast:
    """
    Seconds of stages that have not run.

    The estimate of a kind is corrected by the ratio of measured to expected times of that kind. A kind without a
    measured stage takes the ratio of all kinds together. A stage without an estimate takes the mean of its kind.

    Args:
        processes (`int`): Stages at the same time.
    """

    def __init__(self, processes: int):
        self.processes = processes
        self.measured: dict[str, list[tuple[float, float | None]]] = defaultdict(list)

    def learn(self, stage: Stage, seconds: float) -> None:
        """Learn the seconds of a stage that has ended."""
        self.measured[stage.kind].append((seconds, stage.seconds))

    def seconds(self, stage: Stage) -> float:
        """Return the seconds of a stage, 0 if nothing is known."""
        if stage.seconds is None:
            own = [seconds for seconds, _ in self.measured[stage.kind]]
            return sum(own) / len(own) if own else 0.0
        return stage.seconds * self._ratio([stage.kind], default=self._ratio(list(self.measured), default=1.0))

    def left(self, stages: Iterable[Stage], running: Mapping[Stage, float] | None = None) -> float:
        """
        Return the seconds until all stages have ended, if no process ever waits for another.

        Args:
            stages (`Iterable[Stage]`): Stages that have not ended.
            running (`Mapping[Stage, float]`, *optional*): Seconds that some of them have run.
        """
        running = running or {}
        return sum(max(0.0, self.seconds(stage) - running.get(stage, 0.0)) for stage in stages) / self.processes

    def _ratio(self, kinds: list[str], default: float) -> float:
        pairs = [pair for kind in kinds for pair in self.measured[kind] if pair[1]]
        return sum(seconds for seconds, _ in pairs) / sum(expected for _, expected in pairs) if pairs else default


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
