"""All chance of the data, keyed: what a row gets depends on (seed, epoch, index), not on who reads it, or after what."""

from __future__ import annotations

import numpy as np

CROP_TRIES = 10
UNIFORMS_PER_CROP = 4 * CROP_TRIES
FLIP = UNIFORMS_PER_CROP
CAPTION = UNIFORMS_PER_CROP + 1
SYNTHETIC_CAPTION = UNIFORMS_PER_CROP + 2
COLORS = UNIFORMS_PER_CROP + 3  # the first of six: whether they change, the four changes, grey
UNIFORMS_PER_ROW = UNIFORMS_PER_CROP + 9

_ROWS, _ORDER, _SOURCE = 0, 1, 2  # streams of the generator that share no number


def row_uniforms(seed: int, epoch: int, index: int) -> list[float]:
    """The numbers that decide everything about one row in one epoch.

    Philox counts instead of remembering ([Salmon et al., 2011](https://doi.org/10.1145/2063384.2063405)): a row's numbers
    are the same in every process, dataloader worker and run, and can be had again at any time, in any order.

    Args:
        seed (`int`): Of the data, at least 0: [`CLIPDataCollator`]'s `seed`.
        epoch (`int`): The pass over the data, from 0; the row's `__epoch__`, or the collator's where it has none.
        index (`int`): The row's `__index__`: its number in the data, whatever the order it is read in.

    Returns:
        `list[float]`: `UNIFORMS_PER_ROW` numbers in [0, 1). The first `UNIFORMS_PER_CROP` are what [`random_crop_box`]
        takes; `[FLIP]` mirrors the crop where it is below `flip`; `[CAPTION]` and `[SYNTHETIC_CAPTION]` choose among a
        row's captions, `texts[int(u * len(texts))]`; those from `[COLORS]` on change the colours.
    """
    return _uniforms(seed, epoch, _ROWS, index, UNIFORMS_PER_ROW).tolist()


def order(seed: int, epoch: int, size: int, part: int = 0) -> np.ndarray:
    """A permutation of `range(size)`, another one in every epoch and for every part of the data."""
    return np.argsort(_uniforms(seed, epoch, _ORDER, part, size), kind="stable")


def source_uniform(seed: int, reader: int, number: int) -> float:
    """The number in [0, 1) that chooses among mixed sources for the `number`-th row of a reader."""
    return float(_uniforms(seed, reader, _SOURCE, number, 1)[0])


def _uniforms(seed: int, epoch: int, stream: int, index: int, count: int) -> np.ndarray:
    # The lowest word of the counter is counted up, one for four numbers. Raw bits: numpy promises them for good.
    philox = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64), counter=np.array([0, 0, stream, index], dtype=np.uint64)
    )
    return (philox.random_raw(count) >> np.uint64(11)) * 2.0**-53
