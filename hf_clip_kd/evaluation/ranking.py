"""Hit rate: the chance that a right answer is among the k best."""

from __future__ import annotations

import torch
from torch import Tensor


def hit_rate(scores: Tensor, positives: Tensor, k: int) -> Tensor:
    """
    Compute the chance that at least one positive candidate is among the `k` best of each query.

    Without ties this is 0 or 1, CLIP_benchmark's `topk` with "recall greater than zero". Candidates with exactly the
    same score have no order, and `topk` would take them as they lie in memory. Here the chance under a random order
    counts. A collapsed model (all scores equal) then gets the score of a guess.

    Args:
        scores (`Tensor` of shape `(queries, candidates)`): Higher is better.
        positives (`bool` `Tensor` of the same shape): Right answers, at least one per query.
        k (`int`): Length of the list of answers.

    Returns:
        `Tensor` of shape `(queries,)`, between 0 and 1.
    """
    best = scores.masked_fill(~positives, -torch.inf).amax(dim=1, keepdim=True)
    level = scores == best
    right = (level & positives).sum(dim=1)
    wrong = level.sum(dim=1) - right
    places = k - (scores > best).sum(dim=1)
    # The places left over for this level are filled one by one. A miss has a wrong candidate in each of them.
    miss = torch.ones(len(scores))
    for place in range(k):
        wrong_left = (wrong - place).clamp(min=0)
        chance = wrong_left / (wrong_left + right)
        miss = torch.where(place < places, miss * chance, miss)
    return 1 - miss
