"""Numbers that an option of a loss may be."""

import pytest

from hf_clip_kd.losses.parts.numbers import is_finite


@pytest.mark.parametrize("value", [0, -1, 0.5, 10**300])
def test_finite(value):
    assert is_finite(value)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("-inf"), 10**400])
def test_no_finite_number(value):
    assert not is_finite(value)
