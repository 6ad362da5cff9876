"""Pairs of layers as options name them."""

import pytest

from hf_clip_kd.losses.parts.pairs import layer_pairs


def test_pairs():
    assert layer_pairs("patch", -3, -4, None) == ((-3, -4, 1.0),)
    assert layer_pairs("patch", -3, -4, [[-2, -1], (5, 9, 0.5)]) == ((-2, -1, 1.0), (5, 9, 0.5))


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        "22",
        3,
        [3],
        [[-2]],
        [[-2, -2, 1, 1]],
        [[-2, 1.5]],
        [[-2, "x"]],
        [[-2, -2, 0]],
        [[-2, -2, "x"]],
        [[-2, -2, 10**400]],
    ],
)
def test_what_is_no_pair(pairs):
    with pytest.raises(
        ValueError, match=r"pairs=.* are no layers of the loss 'patch'.*weight above 0.*\[-4, -8, 0.5\]"
    ):
        layer_pairs("patch", -2, -2, pairs)
