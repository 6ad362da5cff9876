"""Speed of a run, shares of its time, and a file with all its logs."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..recipe_io.results import METRICS_NAME, write_whole

logger = logging.getLogger(__name__)

MOST = 10_000  # Spans that are kept apart. A run may never log.


class Clock:
    """
    Measure the seconds in named parts of a program, by the device's own clock where it runs behind the host.

    Args:
        device (`torch.device`): The device that does the work.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.spans: dict[str, list[tuple]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)  # those of the spans that were summed up

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._mark()
        yield
        self.spans[name].append((start, self._mark()))
        if len(self.spans[name]) > MOST:
            self._sum_up()

    def read(self) -> dict[str, float]:
        """Return the seconds of each part since the last reading."""
        self._sum_up()
        seconds = dict(self.seconds)
        self.seconds.clear()
        return seconds

    def _sum_up(self) -> None:
        on_host = self.device.type == "cpu"
        if not on_host:
            torch.get_device_module(self.device).synchronize(self.device)
        for name, spans in self.spans.items():
            lengths = (end - start if on_host else start.elapsed_time(end) / 1000 for start, end in spans)
            self.seconds[name] += sum(lengths)
        self.spans.clear()

    def _mark(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.Event(self.device.type, enable_timing=True)
        event.record()
        return event


class Throughput(TrainerCallback):
    """
    Give every log of the training its speed and the shares of its time.

    `samples_per_second` counts the samples of all processes. `data_wait_share`, `teacher_share` and `student_share`
    (forward and backward passes with the losses) are shares of the time that the steps took. Evaluations and
    checkpoints do not count.

    The trainer counts `samples` and runs the parts of a step inside of [`Throughput.clock`], named `step` and
    `teacher`. The callback finds the rest from the order of its events.

    Args:
        device (`torch.device`): The device that trains.
        world_size (`int`): The number of processes.

    Attributes:
        trained (`float`): Seconds that all steps of this trainer took so far.
    """

    def __init__(self, device: torch.device, world_size: int):
        self.clock = Clock(device)
        self.world_size = world_size
        self.trained = 0.0
        self._forget()

    def _forget(self) -> None:
        self.samples, self._seconds, self._data_seconds = 0, 0.0, 0.0

    def count(self, micro_batches: list[dict[str, Any]]) -> None:
        """Count the samples of a step. In packed rows, each begins at position 0."""
        for batch in micro_batches:
            packed = batch.get("position_ids")
            # The host does not wait for a number on the device.
            self.samples += len(batch["input_ids"]) if packed is None else (packed == 0).sum()

    def _begin_fetch(self, args, state, control, **kwargs):
        self._fetch_start = time.perf_counter()

    # The next batch is fetched after the last of these events.
    on_epoch_begin = on_log = on_evaluate = on_save = _begin_fetch

    def on_step_begin(self, args, state, control, **kwargs):
        self._data_seconds += time.perf_counter() - self._fetch_start

    def on_step_end(self, args, state, control, **kwargs):
        seconds = time.perf_counter() - self._fetch_start
        self._seconds += seconds
        self.trained += seconds
        self._begin_fetch(args, state, control)

    def read(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the numbers since the last log of the training, and begin anew; nothing for other logs."""
        if "loss" not in logs or not self._seconds:
            return {}
        seconds, total = self.clock.read(), self._seconds
        teacher = seconds.get("teacher", 0.0)
        values = {
            "samples_per_second": float(self.samples) * self.world_size / total,
            "data_wait_share": self._data_seconds / total,
            "teacher_share": teacher / total,
            "student_share": (seconds["step"] - teacher) / total,
        }
        self._forget()
        return {name: float(f"{value:.4g}") for name, value in values.items()}


class MetricsWriter(TrainerCallback):
    """
    Write each log as a line of `output_dir/metrics.jsonl`. A resumed run continues after its checkpoint.

    Where the disk is full, the training goes on. The next log that can be written brings the missing lines.
    """

    def __init__(self):
        self.behind = False  # lines are missing, and the last one may be torn

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_whole(Path(args.output_dir, METRICS_NAME), _lines(state.log_history))

    def on_log(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        path = Path(args.output_dir, METRICS_NAME)
        try:
            if self.behind:
                write_whole(path, _lines(state.log_history))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "a", encoding="utf-8") as file:
                    file.write(_lines(state.log_history[-1:]))
        except OSError as error:
            if not self.behind:
                logger.warning("%s lacks lines for now: %s. The training goes on.", path, error)
            self.behind = True
        else:
            self.behind = False


def _lines(logs: list[dict[str, Any]]) -> str:
    entries = [{name: _json(value) for name, value in entry.items()} for entry in logs]
    return "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
