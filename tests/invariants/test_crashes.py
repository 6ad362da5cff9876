"""Work that is killed again and again, at random moments, ends as if nothing had been."""

import pytest
from board import PHASES
from crashing import crash
from killed_work import WORK

# Two kills of each work, in two phases, and the next begins with the phases after. The slowest recipes get one.
SHARES = dict.fromkeys(WORK, 2) | {"evaluate.py": 1, "cache_teacher.py, 2": 1}
SEEDS = {name: 2 * number for number, name in enumerate(WORK)} | {"push": 1}


def test_a_few_kills(context, tmp_path):
    struck, lost = crash(context, tmp_path, "map", 5, seed=0)
    assert (len(struck), lost) == (5, [])


def test_the_kills_strike_in_all_phases():
    planned = [
        work.phases[(SEEDS[name] + kill) % len(work.phases)]
        for name, work in WORK.items()
        for kill in range(SHARES[name])
        if work.phases
    ]
    assert sum(SHARES.values()) == 40 and {*planned} == {*PHASES}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_forty_kills(context, hub, name, tmp_path):
    struck, lost = crash(context, tmp_path, name, SHARES[name], seed=SEEDS[name])
    assert lost == [], "\n".join(lost)
    assert len(struck) == SHARES[name]
