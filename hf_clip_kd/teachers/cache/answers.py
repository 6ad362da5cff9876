"""The largest answers of frozen readers in a cache, in the place of the teacher's tokens, which are far larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...data.exchanges import every_exchange, reader_prefix, texts_of
from ..reader.answering import texts_in
from ..reader.base import ANSWER_IDS, ANSWER_LOGITS, Reader
from ..reader.texts import IGNORED

if TYPE_CHECKING:
    from .reader import TeacherCache

OWNERS = "exchange_owners"
# Names of the tensors of a reader in a shard. `verify` knows embeddings of texts by such names.
VALUES, IDS, ENDS = "answers_{}_text_embeds", "answers_{}_answer_ids", "answers_{}_text_ends"


def describe(readers: Sequence[Reader], top_k: int) -> dict[str, Any]:
    """Return what a manifest says of the stored answers."""
    return {"top_k": top_k, "readers": [reader.identity()["weights"] for reader in readers]}


def written(rows: Sequence[dict[str, Any]], captions: Sequence[Sequence[str]], readers: Sequence) -> dict[str, Tensor]:
    """
    Write every text that a reader may see beside some images.

    Args:
        rows (`Sequence[dict]`): Rows, perhaps with questions.
        captions (`Sequence[Sequence[str]]`): All captions of each.
        readers (`Sequence[Callable]`): The readers' `texts`.

    Returns:
        `dict`: for each reader its inputs, as in a training batch, and `exchange_owners`, the row of each text.
    """
    found = [every_exchange(*pair) for pair in zip(rows, captions, strict=True)]
    flat = [exchange for own in found for exchange in own]
    owners = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(own) for own in found]))
    return {OWNERS: owners} | texts_of(readers, flat)


def ask(
    readers: Mapping[int, Reader], teacher: int, tokens: Tensor, batch: dict[str, Any], top_k: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """
    Read the tokens of some crops beside every text of their rows.

    Args:
        readers (`Mapping[int, Reader]`): Readers of this teacher, by their number in the batch.
        teacher (`int`): Number of the teacher.
        tokens (`Tensor` of shape `(rows, crops, N, channels)`): The teacher's tokens.
        batch (`dict`): With the result of [`written`].
        top_k (`int`): Number of the largest answers to keep.
        dtype (`torch.dtype`): Type of the stored logarithms of probabilities.

    Returns:
        `dict`: tensors of a shard: logarithms and ids `(positions, crops, top_k)`, and the positions of each row.
    """
    stored, owners = {}, batch[OWNERS]
    for number, reader in readers.items():
        texts, kept = texts_in(batch, number), []
        for crop in tokens.unbind(dim=1):
            answers = reader.answers(crop[owners.to(crop.device)], texts)
            kept.append(answers.logits.log_softmax(-1).topk(min(top_k, answers.logits.shape[1])))
        values, ids = (torch.stack([part[i] for part in kept], dim=1) for i in range(2))
        stored[f"{teacher}.{VALUES.format(number)}"] = values.to("cpu", dtype)
        stored[f"{teacher}.{IDS.format(number)}"] = ids.to("cpu", torch.int32)
        stored[ENDS.format(number)] = torch.bincount(owners[answers.owners.cpu()], minlength=len(tokens))
    return stored


def stored_answers(
    cache: TeacherCache,
    places: Sequence[int],
    epochs: Sequence[int],
    rows: Sequence[dict[str, Any]],
    captions: Sequence[Sequence[str]],
    chosen: Sequence[tuple],
    readers: Sequence,
) -> dict[str, Tensor]:
    """
    Take the answers about the chosen texts of a batch out of a cache.

    Args:
        cache ([`TeacherCache`]): The cache.
        places, epochs (`Sequence[int]`): As for [`TeacherCache.images`].
        rows, captions: As for [`written`].
        chosen (`Sequence[tuple]`): The question and answer, or caption, of each row in this batch.
        readers (`Sequence[Callable]`): The readers' `texts`.

    Returns:
        `dict`: for each reader the logarithms and ids, `(positions, top_k)`, text by text. Empty without any stored.
    """
    if "answers" not in cache.manifest:
        return {}
    batch, several = {}, len(cache.manifest["teachers"]) > 1
    every = [every_exchange(*pair) for pair in zip(rows, captions, strict=True)]
    where = cache._where(places, epochs)
    for number, write in enumerate(readers):
        values, ids = [], []
        for (shard, (row, crop)), own, exchange in zip(where, every, chosen, strict=True):
            counts = (write(own)["labels"] != IGNORED).sum(dim=1).tolist()
            ends, place = shard[ENDS.format(number)], own.index(exchange)
            start = (int(ends[row - 1]) if row else 0) + sum(counts[:place])
            own_rows, teacher = slice(start, start + counts[place]), number if several else 0
            values.append(shard[f"{teacher}.{VALUES.format(number)}"][own_rows, crop])
            ids.append(shard[f"{teacher}.{IDS.format(number)}"][own_rows, crop])
        prefix = reader_prefix(number)
        batch |= {f"{prefix}{ANSWER_LOGITS}": torch.cat(values), f"{prefix}{ANSWER_IDS}": torch.cat(ids).long()}
    return batch


__all__ = ["ask", "describe", "stored_answers", "written"]
