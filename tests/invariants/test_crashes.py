"""Work that is killed again and again, at random moments, ends as if nothing had been."""

import pytest
from crashing import crash
from killed_work import WORK

KILLS = 40


def test_a_few_kills(context, tmp_path):
    struck, lost = crash(context, tmp_path, "map", 5, seed=0)
    assert (len(struck), lost) == (5, [])


# Each phase of a training, and two or three kills of each other work.
SHARES = {"map": 8, "map, DDP": 6} | dict.fromkeys([name for name in WORK if not name.startswith("map")], 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
def test_forty_kills(context, hub, name, tmp_path):
    assert sum(SHARES.values()) == KILLS
    struck, lost = crash(context, tmp_path, name, SHARES[name], seed=len(name))
    assert lost == []
    assert len(struck) == SHARES[name]
