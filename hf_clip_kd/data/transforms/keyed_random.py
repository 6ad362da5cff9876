"""Random numbers keyed by (seed, epoch, index): the same in every process and worker."""

from __future__ import annotations

import numpy as np

CROP_TRIES = 10
UNIFORMS_PER_CROP = 4 * CROP_TRIES
FLIP = UNIFORMS_PER_CROP
CAPTION = UNIFORMS_PER_CROP + 1
SYNTHETIC_CAPTION = UNIFORMS_PER_CROP + 2
COLORS = UNIFORMS_PER_CROP + 3  # Here begin six numbers: one for any change, four for the changes, one for grey.
BACKGROUND = UNIFORMS_PER_CROP + 9
UNIFORMS_PER_ROW = UNIFORMS_PER_CROP + 10

_ROWS, _ORDER, _SOURCE = 0, 1, 2  # Streams of the generator share no number.


def row_uniforms(seed: int, epoch: int, index: int) -> list[float]:
    """Return the numbers that decide all random choices for one row in one epoch.

    The generator is Philox ([Salmon et al., 2011](https://doi.org/10.1145/2063384.2063405)). It computes a number from
    its counter and keeps no state. A row's numbers are the same in every process, worker and run, in any order.

    Args:
        seed (`int`): Seed of the data, at least 0: [`CLIPDataCollator`]'s `seed`.
        epoch (`int`): Pass over the data, from 0: the row's `__epoch__`, or else the collator's.
        index (`int`): The row's `__index__`: its number in the data, in any order of reading.

    Returns:
        `list[float]`: `UNIFORMS_PER_ROW` numbers in [0, 1):
        - the first `UNIFORMS_PER_CROP` are for [`random_crop_box`];
        - `[FLIP]` mirrors the crop if it is below `flip`;
        - `[CAPTION]` and `[SYNTHETIC_CAPTION]` choose among a row's captions, `texts[int(u * len(texts))]`;
        - the six numbers from `[COLORS]` on change the colours;
        - `[BACKGROUND]` drops the transparency if it is below `drop_alpha`.
    """
    return _uniforms(seed, epoch, _ROWS, index, UNIFORMS_PER_ROW).tolist()


def order(seed: int, epoch: int, size: int, part: int = 0) -> np.ndarray:
    """Return a permutation of `range(size)`, a different one for each epoch and part of the data."""
    return np.argsort(_uniforms(seed, epoch, _ORDER, part, size), kind="stable")


def source_uniform(seed: int, reader: int, number: int) -> float:
    """Return the number in [0, 1) that chooses the source of the `number`-th row of a reader."""
    return float(_uniforms(seed, reader, _SOURCE, number, 1)[0])


def _uniforms(seed: int, epoch: int, stream: int, index: int, count: int) -> np.ndarray:
    # The lowest word of the counter goes up by one for every four numbers. NumPy guarantees the raw bits.
    philox = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64), counter=np.array([0, 0, stream, index], dtype=np.uint64)
    )
    return (philox.random_raw(count) >> np.uint64(11)) * 2.0**-53
