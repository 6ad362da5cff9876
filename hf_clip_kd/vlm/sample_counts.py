"""Counts of a run's samples: those left out with the reasons, and the supervised tokens."""

from __future__ import annotations

import logging

from ..data.reading.worker_counts import WorkerCounts, too_many

logger = logging.getLogger(__name__)

REASONS = (
    "no usable image",
    "image token in a text-only sample",
    "more image tokens than images",
    "fewer image tokens than images",
    "no conversation",
    "too long",
    "nothing supervised",
    "half a character",
)
"""Why a sample can be left out."""

MIN_SEEN = 50
_COLUMNS = ("seen", "truncated", "tokens", "supervised", "places", *REASONS)
_SHARED = ("tokens", "supervised", "places")  # columns of which a log has the shares
_MAX_NAMED = 20


class BadSampleError(ValueError):
    """One sample cannot be used; `reason` is one of `REASONS`, the message says what is allowed and the fix."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class SampleCounts:
    """Counts samples over all dataloader workers, names the first ones left out, and stops a run that learns nothing.

    The counts live in shared memory, see [`~hf_clip_kd.data.reading.worker_counts.WorkerCounts`].

    Args:
        max_fraction (`float`):
            The run stops when a larger share of at least 50 samples was left out. The end of a run has another rule
            for fewer, see [`~hf_clip_kd.data.reading.worker_counts.too_many`]. `1.0` stops only there, without a
            usable sample.
    """

    def __init__(self, max_fraction: float):
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                f"`max_masked_fraction={max_fraction}` is not a share. It must lie between 0 (stop when any sample is "
                "left out) and 1 (never stop). Pass for example `max_masked_fraction=0.5`."
            )
        self.max_fraction = max_fraction
        self.counts = WorkerCounts(_COLUMNS)
        self.named = 0
        self._before, self._shares = dict.fromkeys(_SHARED, 0), {}

    @property
    def seen(self) -> int:
        """Samples, those left out included."""
        return self.counts.total("seen")

    @property
    def truncated(self) -> int:
        """Samples that lost the end of their text and are used."""
        return self.counts.total("truncated")

    @property
    def skipped(self) -> dict[str, int]:
        """Samples left out, by reason; only reasons that occurred."""
        return {reason: n for reason in REASONS if (n := self.counts.total(reason))}

    @property
    def supervised_fraction(self) -> float:
        """Share of the tokens, image tokens included, that a loss is taken of."""
        return self.counts.total("supervised") / max(self.counts.total("tokens"), 1)

    @property
    def padding_fraction(self) -> float:
        """Share of a batch's places that hold no token, over all batches."""
        return 1 - self.counts.total("tokens") / max(self.counts.total("places"), 1)

    def read(self) -> dict[str, float]:
        """
        Return the shares of the batches made since the last reading. Without any, they are those of the last one.

        The names are `supervised_fraction` and `padding_fraction`, see the attributes. Workers make batches ahead.
        """
        now = {name: self.counts.total(name) for name in _SHARED}
        tokens, supervised, places = (now[name] - self._before[name] for name in _SHARED)
        if tokens and places:
            self._before = now
            self._shares = {"supervised_fraction": supervised / tokens, "padding_fraction": 1 - tokens / places}
        return self._shares

    def __str__(self) -> str:
        why = ", ".join(f"{n} {reason}" for reason, n in self.skipped.items()) or "none"
        return (
            f"{self.seen} samples: {sum(self.skipped.values())} left out ({why}), {self.truncated} truncated; "
            f"{self.supervised_fraction:.1%} of the tokens are supervised, {self.padding_fraction:.1%} of the places "
            "are padding"
        )

    def use(self, tokens: int, supervised: int, truncated: bool) -> None:
        """Count a sample that is used."""
        for column, n in (("seen", 1), ("tokens", tokens), ("supervised", supervised), ("truncated", int(truncated))):
            self.counts.add(column, n)

    def lay_out(self, places: int) -> None:
        """Count the places of a batch, those of padding included."""
        self.counts.add("places", places)

    def skip(self, error: BadSampleError) -> None:
        """Count a sample that is left out.

        Raises:
            ValueError: if more than `max_fraction` of at least 50 samples was left out.
        """
        self.counts.add("seen")
        self.counts.add(error.reason)
        self.named += 1
        if self.named <= _MAX_NAMED:
            logger.warning("Left out a sample: %s", error)
            if self.named == _MAX_NAMED:
                logger.warning("Further samples that are left out are counted, not named.")
        self._judge("the first ", f" The last one: {error}", ended=False)

    def check(self) -> None:
        """Judge all samples at the end of a run, however few they are.

        Raises:
            ValueError: Too many of the samples were left out, or none is usable.
        """
        self._judge("", "", ended=True)

    def _judge(self, which: str, last: str, *, ended: bool) -> None:
        seen, skipped = self.seen, self.skipped
        if too_many(sum(skipped.values()), seen, self.max_fraction, least=MIN_SEEN, ended=ended):
            raise ValueError(
                f"Of {which}{seen} samples, {sum(skipped.values())} were left out: {skipped}. At most a share of "
                f"`max_masked_fraction={self.max_fraction}` may be, and one sample must be usable.{last} Repair the "
                "data, or pass a larger share."
            )
