"""Sequence packing: several samples in a row of a batch, none of which sees another."""

from __future__ import annotations

import heapq

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from ..models.eval_mode import eval_mode

# Lengths of the sequences in the two rows of the probe. The largest difference is in standard deviations, also in
# bfloat16.
PROBE, TOLERANCE = [[5, 7], [8, 4]], 0.1


def pack(lengths: list[int], limit: int) -> list[list[int]]:
    """
    Deal samples out to as few rows as `limit` allows, all of about one length.

    Each sample goes to the shortest row, the longest sample first (https://doi.org/10.1137/0117039). Rows of one
    length need no padding, where rows filled one after the other leave a short last one.

    Args:
        lengths (`list[int]`): Tokens of each sample.
        limit (`int`): Largest number of tokens of a row. A longer sample raises it to its own.

    Returns:
        `list[list[int]]`: Indices of the samples of each row, in their order.
    """
    limit = max(limit, *lengths)
    count = -(-sum(lengths) // limit)
    while True:
        heap: list[tuple[int, int]] = [(0, row) for row in range(count)]
        rows: list[list[int]] = [[] for _ in range(count)]
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            filled, row = heap[0]
            heapq.heapreplace(heap, (filled + lengths[index], row))
            rows[row].append(index)
        if max(heap)[0] <= limit:
            return [sorted(row) for row in rows]
        count += 1


def packed_positions(lengths: list[list[int]]) -> Tensor:
    """
    Return the `position_ids` of packed rows, `(rows, longest row)`.

    They begin anew with each sample. So transformers separates the samples, if a call has no `attention_mask` and no
    cache. Padding continues the last sample of its row, which does not look ahead.

    Args:
        lengths (`list[list[int]]`): Tokens of the samples of each row.
    """
    width = max(map(sum, lengths))
    filled = [[*row[:-1], row[-1] + width - sum(row)] for row in lengths]
    return torch.stack([torch.cat([torch.arange(n) for n in row]) for row in filled])


def repeated_positions(positions: Tensor, repeats: Tensor) -> list[Tensor]:
    """
    Return the positions of each packed row whose tokens are repeated, so that samples change their lengths.

    Args:
        positions (`Tensor` of shape `(rows, length)`): Positions as [`packed_positions`] gives them.
        repeats (`Tensor` of shape `(rows, length)`): Times that each token is repeated; 0 drops it.
    """
    samples = [
        number.repeat_interleave(times) for number, times in zip((positions == 0).cumsum(dim=1), repeats, strict=True)
    ]
    return [torch.arange(len(row), device=row.device) - torch.searchsorted(row, row) for row in samples]


@torch.no_grad()
def check_packing(model: LlavaForConditionalGeneration) -> None:
    """
    Run the language model on two rows of two sequences each, and on each sequence alone.

    Raises:
        ValueError: A sequence depends on the other one of its row, or the attention may let it.
    """
    reader = model.model.language_model
    attention = reader.config._attn_implementation
    if "flash" in attention:
        raise ValueError(
            f"`packing=True` with `attn_implementation={attention!r}`, with which transformers separates the samples "
            "of a single row alone. It must be 'sdpa', 'eager' or 'flex_attention'. Load the language model with "
            "`attn_implementation='sdpa'`, or leave packing out: `--packing false`."
        )
    words = model.config.text_config.vocab_size
    shape = (len(PROBE), sum(PROBE[0]))
    ids = torch.randint(words, shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    positions = packed_positions(PROBE).to(model.device)
    with eval_mode(reader):
        try:
            together = reader(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        except TypeError:  # It takes no positions.
            together = torch.full((), torch.inf)
        parts = [part[None] for row, lengths in zip(ids, PROBE, strict=True) for part in row.split(lengths)]
        apart = [reader(input_ids=part, use_cache=False).last_hidden_state for part in parts]
    apart = torch.cat(apart, dim=1).view(*shape, -1).float()
    distance = ((together.float() - apart).abs().max() / apart.std()).item()
    if not distance <= TOLERANCE:
        raise ValueError(
            f"`packing=True` with a {type(reader).__name__}, whose samples see each other in a packed row. Their "
            f"states differ by {distance:.2g} standard deviations. It must be a language model of attention that "
            "takes `position_ids`, such as Qwen2 or Llama. Leave it out: `--packing false`."
        )


__all__ = ["check_packing", "pack", "packed_positions", "repeated_positions"]
