"""A run that scores itself at several of its steps, and goes on as if nobody had looked."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from ..recipe_io.learning_curve import CURVE_NAME, area
from ..recipe_io.results import write_whole

logger = logging.getLogger(__name__)

Scores = Mapping[str, Mapping[str, float]]
# Key of the points in a checkpoint's state. It is no class name, since the Trainer makes callbacks of class names.
_KEY = "learning_curve"


class LearningCurve(TrainerCallback):
    """
    Score a run at some of its optimizer steps, and write `output_dir/learning_curve.json`.

    The scored weights are the average while the run has one (`ema_decay`), as in [`BaseTrainer.evaluate`]. Weights,
    optimizer, random states and order of the data stay those of a run that is not scored. Checkpoints hold the points
    up to them, so a resumed run goes on with these and no later ones.

    The last point is that of the trained model. Whoever has its scores gives them to [`LearningCurve.finish`].

    Args:
        trainer ([`BaseTrainer`]):
            Trainer of the run. The callback still has to be added to it.
        steps (`Sequence[int]`):
            Optimizer steps at which to score. A number equal to the last step is the last point.
        score (`Callable[[], dict[str, dict[str, float]]]`):
            Function that scores the model as it is: benchmark to metric to number. All processes call it together.

    Raises:
        ValueError: A step is no positive number, or lies beyond the last step of the run. Or an engine shards the
            weights, whose processes would wait for each other in answers of unequal length.
    """

    def __init__(self, trainer: Trainer, steps: Sequence[int], score: Callable[[], Scores]):
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ValueError(
                f"`score_at_steps={list(steps)}` under FSDP or DeepSpeed, whose processes would wait for each other "
                "for ever. Scoring needs whole weights in each process. Train without them, or leave "
                "`score_at_steps` out."
            )
        self.trainer, self.steps, self.score = trainer, check_steps(steps), score
        self.points: list[dict[str, Any]] = []
        self._seconds = 0.0  # seconds of training in the runs before this one, and in this one's earlier trainings

    def on_train_begin(self, args, state, control, **kwargs):
        check_steps(self.steps, state.max_steps)
        saved = state.stateful_callbacks.get(_KEY, {"points": [], "seconds": 0.0})
        self.points, self._seconds = list(saved["points"]), saved["seconds"] - self.trainer.throughput.trained
        self._write()
        # A run that was told to stop at such a step left the scoring to the next one.
        self._see(args, state, control)

    def on_step_end(self, args, state, control, **kwargs):
        if not control.should_training_stop:
            self._see(args, state, control)
        state.stateful_callbacks[_KEY] = {"points": self.points, "seconds": self._now()}

    def finish(self, scores: Scores) -> None:
        """Add the trained model's scores as the last point; all processes call this together."""
        self._add(self.trainer.state.global_step, scores)

    def _see(self, args, state, control) -> None:
        step = state.global_step
        if step not in self.steps or step == state.max_steps or any(point["step"] == step for point in self.points):
            return
        with self.trainer.ema.in_place(), kept_random_states(args.device):
            scores = self.score()
        try:
            self._add(step, scores)
        except OSError as error:
            # Checkpoints and the next point hold this one, too.
            logger.warning("%s could not be written (%s). The training goes on.", CURVE_NAME, error)
        asked = control.should_log
        # The clock of the training begins anew after a log, so it does not count the scoring.
        self.trainer.log({f"{name}_{metric}": scores[name][metric] for name, metric in overall(scores)})
        control.should_log = asked  # this log was not the one of the training

    def _add(self, step: int, scores: Scores) -> None:
        scores = {name: {metric: float(value) for metric, value in of.items()} for name, of in scores.items()}
        self.points = [point for point in self.points if point["step"] < step]
        self.points.append({"step": step, "seconds": round(self._now(), 2), "scores": scores})
        self._write()

    def _now(self) -> float:
        return self._seconds + self.trainer.throughput.trained

    def _write(self) -> None:
        if self.trainer.is_world_process_zero():
            path = Path(self.trainer.args.output_dir, CURVE_NAME)
            if self.points:
                write_whole(path, json.dumps(curve_of(self.points), indent=2) + "\n")
            else:
                path.unlink(missing_ok=True)


def curve_of(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the content of `learning_curve.json`: `steps`, `seconds` of training, `scores` and their `area`.

    Args:
        points: `step`, `seconds` and `scores` of each point. A metric that a point does not have is left out.
    """
    steps = [point["step"] for point in points]
    scores: dict[str, dict[str, list[float]]] = {}
    for name, of in points[-1]["scores"].items():
        shared = [metric for metric in of if all(metric in point["scores"].get(name, {}) for point in points)]
        scores[name] = {metric: [point["scores"][name][metric] for point in points] for metric in shared}
    areas = {name: {metric: area(steps, values) for metric, values in of.items()} for name, of in scores.items()}
    return {"steps": steps, "seconds": [point["seconds"] for point in points], "scores": scores, "area": areas}


def check_steps(steps: Sequence[int], max_steps: int | None = None) -> list[int]:
    """
    Return steps to score at, sorted, each once.

    Raises:
        ValueError: A step is not positive, or lies beyond `max_steps`.
    """
    wrong = [step for step in steps if not isinstance(step, int) or isinstance(step, bool) or step < 1]
    if wrong:
        raise ValueError(
            f"`score_at_steps={list(steps)}` has {wrong[0]!r}. It must be numbers of optimizer steps, 1 or more. Pass "
            "for example `--score_at_steps '[100, 250, 750]'`."
        )
    if max_steps is not None and max(steps, default=0) > max_steps:
        raise ValueError(
            f"`score_at_steps={list(steps)}` has {max(steps)}, and the run has {max_steps} steps. No step may lie "
            "beyond the last. Leave it out, for the end of a run is scored in any case, or train longer with "
            "`--max_steps`."
        )
    return sorted(set(steps))


def overall(scores: Scores) -> list[tuple[str, str]]:
    """Return benchmark and metric of the scores over all questions, without those by type of question."""
    return [(name, metric) for name, of in scores.items() for metric in of if "/" not in metric]


@contextmanager
def kept_random_states(device: torch.device) -> Iterator[None]:
    """Give the generators of PyTorch, NumPy and Python their states back, as the next step expects them."""
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
