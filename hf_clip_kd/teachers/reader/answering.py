"""Answers of readers in a teacher's features, from a collated batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ...data.exchanges import READER, reader_prefix
from ...losses.features import CLIPFeatures
from .base import ANSWER_LOGITS, Reader


def with_answers(features: CLIPFeatures, readers: Sequence[Reader], batch: dict[str, Tensor]) -> CLIPFeatures:
    """
    Let readers read a teacher's tokens, beside the texts of the batch.

    Args:
        features ([`CLIPFeatures`]): The teacher's, with `image_tokens`. In an ensemble each member has its reader.
        readers (`Sequence[Reader]`): The readers, in the order of the collator.
        batch (`dict[str, Tensor]`): From a collator that was given the readers' `texts`.

    Raises:
        ValueError: The batch holds no texts for a reader, or the tokens are not those that it was trained on.
    """
    if not readers:
        return features
    asked = [(reader, texts_in(batch, number)) for number, reader in enumerate(readers)]
    if features.members:
        pairs = zip(features.members, asked, strict=True)
        return replace(features, members=tuple(_answered(member, [one_of]) for member, one_of in pairs))
    return _answered(features, asked)


def _answered(features: CLIPFeatures, asked: list[tuple[Reader, dict[str, Tensor]]]) -> CLIPFeatures:
    tokens = [features.at(reader.layer_of(features.layers)).image_tokens for reader, _ in asked]
    if tokens[0] is None and not any(ANSWER_LOGITS in texts for _, texts in asked):
        return features  # A teacher that was not asked has said nothing.
    answers = [reader.answers(own, texts) for own, (reader, texts) in zip(tokens, asked, strict=True)]
    return replace(features, answers=tuple(answers))


def texts_in(batch: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """
    Return the inputs of a reader in a batch, by the names that [`Texts`] gives them.

    Raises:
        ValueError: There are none.
    """
    prefix = reader_prefix(number)
    texts = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
    if not texts:
        raise ValueError(
            f"The batch holds no texts for reader {number}: it has {sorted(batch)}, and none begins with {READER!r}. "
            "The collator must write them. Give it the readers' texts: CLIPDataCollator(..., readers=[reader.texts])."
        )
    return texts


__all__ = ["with_answers"]
