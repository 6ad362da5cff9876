"""Sentence and table of several objectives: they say what the numbers say, either way."""

import functools
import re

import made_up_objectives as made_up
import pytest

from hf_clip_kd.study.report.objective_tables import about_goal, objective_table

FEW = {"S": 50.0, "M": 60.0, "L": 70.0}


@functools.cache
def study(best, seeds=3):
    shares = {"clip_kd": 0.25, "best": best}
    return made_up.study(made_up.students(range(seeds), noise=0.1, shares=shares, teachers=FEW), teachers=FEW)


def test_an_objective_that_reaches_the_goal_is_named_with_its_numbers():
    text = about_goal(study(0.9))
    assert text.startswith("**The goal.** An objective is wanted whose slope is clearly above that of `clip_kd`")
    assert "at least 85 % of the strongest teacher's lead" in text and "students of `clip_kd` gain +0.2" in text
    assert "], and 0.2" in text and "of the lead of their strongest teacher `L` arrives. At equal steps" in text
    assert "At equal steps `best` (its slope over 3 seeds is 0.6" in text and "], clearly, and 0.9" in text
    assert "of the lead of its strongest teacher `L` arrives) reaches it." in text
    assert "reaches it. At equal training time" in text


def test_what_lacks_is_said_of_the_nearest():
    text = about_goal(study(0.5))
    assert "At equal steps none of 1 reaches it; the nearest is `best`: its slope over 3 seeds is 0.2" in text
    (lack,) = re.findall(r", ([\d.]+) too little\.", text)
    assert float(lack) == pytest.approx(0.35, abs=0.011)


def test_one_seed_makes_nothing_clear():
    text = about_goal(study(0.9, seeds=1))
    assert "none of 1 reaches it" in text and "over 1 seed is" in text and ", not clearly, and" in text
    assert "too little" not in text


def test_slower_students_cannot_be_judged_at_equal_time():
    """The base has no training of the 150 seconds that `reader` takes. The student alone has."""
    shares = {"clip_kd": 0.25, "best": 0.5, "reader": 0.9}
    cells = made_up.students(range(2), noise=0.1, shares=shares, teachers=FEW, longer=("alone",))
    steps, time = about_goal(made_up.study(cells, teachers=FEW)).split(" At equal training time ")
    assert "`reader`" in steps and "unknown" not in steps
    assert "the nearest is `best`" in time and time.endswith(" Slope or share is unknown for `reader`.")
    short = made_up.students(range(2), noise=0.1, shares={"clip_kd": 0.25, "reader": 0.9}, teachers=FEW)
    assert about_goal(made_up.study(short, teachers=FEW)).endswith("judged: no other objective has both numbers.")


def test_a_table_has_a_row_for_each_score_and_objective():
    cells = made_up.students(range(2), noise=0.1, shares={"clip_kd": 0.25, "best": 0.9}, teachers=FEW)
    cells += [made_up.cell(None, "caption", seed, 50.0) for seed in range(2)]
    lines = objective_table(made_up.study(cells, teachers=FEW)).splitlines()
    assert "less `clip_kd`" in lines[0] and len(lines) == 2 + 3 * 3
    rows = [[entry.strip() for entry in row.strip("|").split("|")] for row in lines[2:]]
    assert [row[:2] for row in rows[:3]] == [["VQA accuracy", name] for name in ("`clip_kd`", "`best`", "`caption`")]
    assert rows[1][3].endswith("▲") and rows[1][4].endswith("of `L`") and rows[1][5] == "100"
    assert rows[2][2:4] == ["–", "–"] and rows[2][4].startswith("+0.2")
    assert objective_table(made_up.study(made_up.students([0], shares={"clip_kd": 0.25}))) is None


@pytest.mark.parametrize("shares", [{"clip_kd": 0.25}, {}], ids=["one objective", "no teacher"])
def test_nothing_to_compare_is_not_a_finding(shares):
    assert about_goal(made_up.study(made_up.students([0], shares=shares))) is None
