"""Work that is killed again and again, at random moments, ends as if nothing had been."""

import pytest
from board import PHASES
from crashing import crash
from killed_work import WORK

# Two kills of each training, in two phases, and the next begins with the phases after. Recipes get one or two.
ONCE = ("evaluate.py", "evaluate.py, full disk", "push.py", "push.py, full disk")
ONCE += ("cache_teacher.py, full disk", "cache_teacher.py, 2")
SHARES = dict.fromkeys(WORK, 2) | dict.fromkeys(ONCE, 1)
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
