"""Runs killed again and again, at random moments of every phase, end with the weights of an undisturbed run."""

import random

import pytest
from crashing import LASTS, Launch, digests

from hf_clip_kd.training.checkpoint_files import last_whole

KILLS = 40


def crash(context, folder, kind, processes, kills, seed):
    """Kill runs until there were so many kills; the phases in which they struck."""
    chance = random.Random(seed)
    assert Launch(context, kind, folder / "whole", processes).join() == [0] * processes
    expected = digests(folder / "whole", processes)
    struck, lives = [], 0
    while len(struck) < kills:
        run, lives = folder / f"run-{lives}", lives + 1
        for _ in range(8):
            phase = list(LASTS)[len(struck) % len(LASTS)]
            doing = Launch(context, kind, run, processes).kill(chance, phase, chance.randint(1, 3))
            if doing is None or len(struck) == kills:
                break
            struck.append(doing)
        assert Launch(context, kind, run, processes).join() == [0] * processes
        assert digests(run, processes) == expected, f"after {struck}, with seed {seed}"
        assert last_whole(run) == run / "checkpoint-8"
    return struck


def test_a_few_kills(context, tmp_path):
    assert len(crash(context, tmp_path, "map", 1, 5, seed=0)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_forty_kills(context, kind, processes, tmp_path):
    struck = crash(context, tmp_path, kind, processes, KILLS // 2, seed=processes)
    assert set(LASTS) <= set(struck), "a kill in each phase"
