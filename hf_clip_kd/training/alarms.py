"""Warnings about runs that train but learn nothing, read from the log. Each comes once until all is well again."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

# Unit vectors whose variance is below this have cosines above 0.999 with each other: all inputs look alike.
MIN_VARIANCE = 1e-3
# The softmax of cosines is flat below a factor of 1, for any embeddings.
MIN_LOGIT_SCALE = 1.0
# fp16's scale halves at every overflow; below 1 it makes gradients smaller than they are, and they vanish.
MIN_LOSS_SCALE = 1.0


class Alarms(TrainerCallback):
    """
    Warn about collapsed embeddings and about scales that ran away, at every log.

    Args:
        max_logit_scale (`float`): The bound of learned scales.
    """

    def __init__(self, max_logit_scale: float = float("inf")):
        self.max_logit_scale = max_logit_scale
        self.ringing: set[str] = set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = dict(self.check(logs))
        for name in found.keys() - self.ringing:
            if state.is_world_process_zero:
                logger.warning("ALARM at step %d: %s", state.global_step, found[name])
        if "loss" in logs:  # other entries have no scales
            self.ringing = set(found)

    def check(self, logs: dict[str, float]) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each alarm that a log gives reason for."""
        for name, value in logs.items():
            if name.startswith("embedding_variance/") and value < MIN_VARIANCE:
                yield (
                    name,
                    f"the student's {name.split('/')[1]} embeddings collapse: their variance is {value:.2g}. Healthy "
                    f"embeddings have more than {MIN_VARIANCE:g}, and at most 1. Lower `learning_rate`, or give "
                    "`clip` more weight.",
                )
        scale = logs.get("logit_scale")
        if scale is not None and scale < MIN_LOGIT_SCALE:
            yield (
                "logit_scale",
                f"the logit scale fell to {scale:.4g}. Below {MIN_LOGIT_SCALE:g} the losses hardly tell pairs apart. "
                "Lower `learning_rate`, or lengthen `warmup_steps`.",
            )
        if scale is not None and scale >= 0.999 * self.max_logit_scale:
            yield (
                "logit_scale bound",
                f"the logit scale is at its bound {self.max_logit_scale:g}. That is normal late in a long run. Early "
                "the student knows its few pairs by heart. Look at the scores on other data, or raise "
                "`max_logit_scale`.",
            )
        if logs.get("loss_scale", MIN_LOSS_SCALE) < MIN_LOSS_SCALE:
            yield (
                "loss_scale",
                f"fp16's loss scale fell to {logs['loss_scale']:.2g}. Below {MIN_LOSS_SCALE:g} gradients vanish "
                "before they fit. Train with `bf16`, or lower `learning_rate`.",
            )
