"""Fixtures of the tests of cards."""

from functools import partial

import pytest
from card_folders import make_run


@pytest.fixture
def run(tmp_path):
    """Return a function that makes a run in its folder, see [`make_run`]."""
    return partial(make_run, tmp_path / "run")
