"""The stages that run, their times and the time left: a bar on a terminal, lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing

from tqdm import tqdm

from .forecast import Forecast, duration
from .schedule import LOG, Ended, Schedule
from .stages import Stage

# The time left is our own: tqdm takes all stages for equally long.
BAR = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
INTERVAL_SECONDS = 60.0


class Progress:
    """
    Show a study at work.

    A file gets a line whenever a stage starts or ends, and one each minute:
    `running: student-1f49272a6995 2 min, vlm-03a4f869c651 10 s; 12/27 done; about 5 min left`.

    Args:
        stages (`list[Stage]`): All stages of the study.
        forecast ([`Forecast`]): Knows the seconds of stages to come.
        terminal (`bool`): Draw a bar that is drawn over, in place of lines.
    """

    def __init__(self, stages: list[Stage], forecast: Forecast, *, terminal: bool):
        self.total, self.forecast = len(stages), forecast
        self.left = {stage.id: stage for stage in stages}
        self.bar = tqdm(total=self.total, desc="stages", bar_format=BAR, dynamic_ncols=True, disable=not terminal)
        self.shown: tuple[set[str], int] | None = None
        self.shown_at = 0.0

    def follow(self, schedule: Schedule) -> Iterator[Ended]:
        """Run all stages, show them, and yield each as it ends. The forecast learns from those that took time.

        `close` stops the running stages and closes the bar.
        """
        with closing(self), closing(schedule.run(list(self.left.values()), self.show)) as ends:
            for end in ends:
                self.end(end)
                if end.seconds is not None:
                    self.forecast.learn(end.stage, end.seconds)
                if end.outcome != "done":
                    log = schedule.root / end.stage.folder / LOG
                    self.write(f"{end.stage.id} {end.outcome}: {end.error}. See {log}")
                elif not end.earlier:
                    self.write(f"{end.stage.id} done in {duration(end.seconds)}")
                yield end

    def write(self, line: str) -> None:
        """Print a line above the bar, or below the other lines."""
        self.bar.write(line)
        sys.stdout.flush()  # A file is looked at while the study runs.

    def end(self, ended: Ended) -> None:
        """Count a stage that has ended."""
        del self.left[ended.stage.id]
        self.bar.update()

    def show(self, running: dict[Stage, float]) -> None:
        """Show the stages that run, if something changed or a minute has passed.

        Args:
            running (`dict[Stage, float]`): Stage to the seconds that it has run.
        """
        if not self.bar.disable:
            self.bar.set_postfix_str(self.text(running))
            return
        now = {stage.id for stage in running}, len(self.left)
        if now != self.shown or time.monotonic() - self.shown_at >= INTERVAL_SECONDS:
            self.shown, self.shown_at = now, time.monotonic()
            self.write(self.text(running))

    def text(self, running: dict[Stage, float]) -> str:
        """Return the line of a file; the bar counts by itself."""
        parts = []
        if running:
            parts.append(
                "running: " + ", ".join(f"{stage.id} {duration(seconds)}" for stage, seconds in running.items())
            )
        elif self.left:
            parts.append("waiting for stages of another run")
        if self.bar.disable:
            parts.append(f"{self.total - len(self.left)}/{self.total} done")
        if self.left:
            parts.append(f"about {duration(self.forecast.left(self.left.values(), running))} left")
        return "; ".join(parts)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()
