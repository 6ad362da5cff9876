"""What can be read of a run while it trains: its speed, where the time goes, and every log in one file."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from ..recipe_io.results import METRICS_NAME


class Clock:
    """
    Seconds spent in named parts of a program, by the device's own clock where that runs behind the host's.

    Args:
        device (`torch.device`): Where the work is done.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.spans: dict[str, list[tuple]] = defaultdict(list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._mark()
        yield
        self.spans[name].append((start, self._mark()))

    def read(self) -> dict[str, float]:
        """The seconds of each part since the last reading."""
        if self.device.type == "cpu":
            seconds = {name: sum(end - start for start, end in spans) for name, spans in self.spans.items()}
        else:
            torch.get_device_module(self.device).synchronize(self.device)
            seconds = {
                name: sum(start.elapsed_time(end) for start, end in spans) / 1000 for name, spans in self.spans.items()
            }
        self.spans.clear()
        return seconds

    def _mark(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.Event(self.device.type, enable_timing=True)
        event.record()
        return event


class WatchesRuns:
    """
    Mixed into a [`~transformers.Trainer`]: every log of the training has `samples_per_second`, of all processes together,
    and as shares of the time that the steps took, `data_wait_share`, `teacher_share` and `student_share` (forward and
    backward passes with the losses). Evaluations and checkpoints do not count. `output_dir/metrics.jsonl` gets every log.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.clock = Clock(self.args.device)
        self._samples, self._seconds, self._data_seconds, self._step_start = 0, 0.0, 0.0, None
        self.add_callback(WritesMetrics())

    def get_batch_samples(self, *args):
        self._step_start = time.perf_counter()
        samples, items = super().get_batch_samples(*args)
        self._data_seconds += time.perf_counter() - self._step_start
        self._samples += sum(len(batch["input_ids"]) for batch in samples)
        return samples, items

    def training_step(self, *args, **kwargs):
        with self.clock("step"):
            return super().training_step(*args, **kwargs)

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        if self._step_start is not None:  # at the end of an epoch it is called without a step
            self._seconds += time.perf_counter() - self._step_start
            self._step_start = None
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._seconds:
            logs |= self._throughput()
        super().log(logs, start_time)

    def _throughput(self) -> dict[str, float]:
        seconds = self.clock.read()
        teacher, total = seconds.get("teacher", 0.0), self._seconds
        values = {
            "samples_per_second": self._samples * self.args.world_size / total,
            "data_wait_share": self._data_seconds / total,
            "teacher_share": teacher / total,
            "student_share": (seconds["step"] - teacher) / total,
        }
        self._samples, self._seconds, self._data_seconds = 0, 0.0, 0.0
        return {name: float(f"{value:.4g}") for name, value in values.items()}


class WritesMetrics(TrainerCallback):
    """Writes each log as a line of `output_dir/metrics.jsonl`; a resumed run goes on where its checkpoint was saved."""

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            path = Path(args.output_dir, METRICS_NAME)
            lines = [line for line in _whole_lines(path) if 0 < json.loads(line)["step"] <= state.global_step]
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            os.replace(temporary, path)

    def on_log(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            entry = {name: _json(value) for name, value in state.log_history[-1].items()}
            path = Path(args.output_dir, METRICS_NAME)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """A killed run may leave half a line at the end."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
