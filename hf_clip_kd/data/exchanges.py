"""Questions and answers about the images of a batch, or their captions, for readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .transforms.keyed_random import CAPTION

READER = "reader_"

# A question and its answer, or `None` and a caption.
Exchange = tuple[str | None, str]


def reader_prefix(number: int) -> str:
    """Return the start of the names of a reader's inputs in a batch."""
    return f"{READER}{number}_"


def exchanges(
    rows: Sequence[dict[str, Any]], captions: Sequence[str], uniforms: Sequence[Sequence[float]]
) -> list[Exchange]:
    """
    Choose what a reader reads beside each image: a question of its row and the answer, or else its caption.

    Args:
        rows (`Sequence[dict]`): Rows. One with questions has `question`, a string, and `answers`, the list of right
            answers, of which the first is read. Or it has lists of both, of which one pair is drawn.
        captions (`Sequence[str]`): The caption of each row in this batch.
        uniforms (`Sequence[Sequence[float]]`): Random numbers of each row, from
            [`~hf_clip_kd.data.transforms.keyed_random.row_uniforms`]. The first question is taken without them.
    """
    numbers = [uniform[CAPTION] for uniform in uniforms] or [0.0] * len(rows)
    return [_exchange(*row) for row in zip(rows, captions, numbers, strict=True)]


def texts_of(readers: Sequence[Callable], chosen: Sequence[Exchange]) -> dict[str, Tensor]:
    """Return what each reader's `texts` make of the exchanges, by the names in a batch."""
    written = ((reader_prefix(number), write(chosen)) for number, write in enumerate(readers))
    return {f"{prefix}{name}": values for prefix, texts in written for name, values in texts.items()}


def every_exchange(row: dict[str, Any], captions: Sequence[str]) -> list[Exchange]:
    """Return all that a reader may read beside an image: its questions with their answers, or else its captions."""
    return _asked(row) or [(None, caption) for caption in captions]


def _exchange(row: dict[str, Any], caption: str, number: float) -> Exchange:
    asked = _asked(row)
    return asked[int(number * len(asked))] if asked else (None, caption)


def _asked(row: dict[str, Any]) -> list[Exchange]:
    questions, answers = row.get("question"), row.get("answers")
    if isinstance(questions, str):
        questions, answers = [questions], [answers]
    return [
        (question, right if isinstance(right, str) else right[0])
        for question, right in zip(questions or (), answers or (), strict=False)
        if question and right
    ]


__all__ = ["Exchange", "every_exchange", "exchanges", "reader_prefix", "texts_of"]
