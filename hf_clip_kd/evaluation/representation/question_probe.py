"""Score of an attentive probe of frozen tokens, by type of question, and its growth with the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .attentive_probe import Question, number_of_steps, question_hits

HELD_OUT = 0.25
SHARES = (0.5, 1.0)  # Shares of the images for the fit, for the learning curve.
RISE = 0.01


@dataclass(frozen=True)
class ProbeScore:
    """Score of a [`question_probe`], between 0 and 1."""

    accuracy: float = field(metadata={"help": "Mean over the types."})
    by_type: dict[str, float] = field(metadata={"help": "Share of the questions that get an accepted answer."})
    stderr: float = field(metadata={"help": "Standard error of `accuracy` over the held-out images."})
    curve: dict[int, float] = field(metadata={"help": "Number of images for the fit to the accuracy."})
    held_out: int = field(metadata={"help": "Number of held-out images with questions."})
    steps: int = field(metadata={"help": "Steps of each fit."})
    seed: int = field(default=0, metadata={"help": "Seed of each fit."})

    @property
    def rise(self) -> float:
        """The gain from the last doubling of the images, 0 if there were too few to halve."""
        scores = list(self.curve.values())
        return scores[-1] - scores[-2] if len(scores) > 1 else 0.0

    @property
    def rising(self) -> bool:
        """`True` if the last doubling of the images gained over a point, so that more would probably gain more."""
        return self.rise > RISE

    def details(self) -> dict[str, Any]:
        """Return the learning curve and the settings for a file of results."""
        return {
            "images": list(self.curve),
            "accuracy": list(self.curve.values()),
            "rising": self.rising,
            "held_out_images": self.held_out,
            "steps": self.steps,
            "seed": self.seed,
        }


def question_probe(tokens: Tensor, questions: Sequence[Question], seed: int = 0) -> ProbeScore:
    """
    Fit an [`AttentiveProbe`] to questions about the first three quarters of the images, and test it on the rest.

    A further fit on half of these images shows whether there are enough. Both have the same steps, seed and held-out
    images.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Frozen tokens of images in random order.
        questions (sequence of [`Question`]): Questions of any types, one at least. The most frequent accepted answer
            is learned.
        seed (`int`, *optional*, defaults to 0): Seed of the fits.

    Returns:
        [`ProbeScore`]: A type without questions about the first three quarters or about the rest has 0.
    """
    first_held_out = int(len(tokens) * (1 - HELD_OUT))
    asked = [question for question in questions if question.image >= first_held_out]
    kinds = sorted({question.kind for question in questions})
    held_out = [question._replace(image=question.image - first_held_out) for question in asked]
    steps = number_of_steps([question for question in questions if question.image < first_held_out])
    curve, hits = {}, [0.0] * len(asked)
    for share in SHARES:
        images = int(share * first_held_out)
        known = [question for question in questions if question.image < images]
        if known and asked:
            hits = question_hits(tokens[:images], known, tokens[first_held_out:], held_out, seed, steps)
            curve[images] = sum(by_type(hits, asked, kinds).values()) / len(kinds)
    found = by_type(hits, asked, kinds)
    return ProbeScore(
        accuracy=sum(found.values()) / len(kinds),
        by_type=found,
        stderr=standard_error(hits, asked),
        curve=curve,
        held_out=len({question.image for question in asked}),
        steps=steps,
        seed=seed,
    )


def by_type(hits: Sequence[float], asked: Sequence[Question], kinds: Sequence[str]) -> dict[str, float]:
    """Return the mean hit of each type, 0 for a type that nobody asks."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for hit, question in zip(hits, asked, strict=True):
        found[question.kind].append(hit)
    return {kind: sum(of_kind) / max(1, len(of_kind)) for kind, of_kind in found.items()}


def standard_error(hits: Sequence[float], asked: Sequence[Question]) -> float:
    """
    Return the standard error of the mean over types, with all questions about an image as one draw.

    It is the cluster-robust error of a sum of means ([Miller, 2024](https://huggingface.co/papers/2411.00640), section
    2.2). If every image has a question of each type, it is the standard error of the images' mean hits. It says how
    far another sample of images may lie, not another seed of the fit.

    Args:
        hits (sequence of `float`), asked (sequence of [`Question`]): Hits of questions, in the same order.

    Returns:
        `float`: 0 for fewer than 2 images.
    """
    kinds = sorted({question.kind for question in asked})
    means = by_type(hits, asked, kinds)
    number = {kind: sum(question.kind == kind for question in asked) for kind in kinds}
    of_image: dict[int, float] = {}
    for hit, question in zip(hits, asked, strict=True):
        part = (hit - means[question.kind]) / (len(kinds) * number[question.kind])
        of_image[question.image] = of_image.get(question.image, 0.0) + part
    images = len(of_image)
    return math.sqrt(images / (images - 1) * sum(part**2 for part in of_image.values())) if images > 1 else 0.0
