"""Pairs of runs: every pair in every benchmark, with p-values for the number of comparisons."""

import numpy as np
import pytest
from answered_runs import write_run
from scipy import stats

from hf_clip_kd.study.browse.comparisons import compare_runs
from hf_clip_kd.study.browse.questions import read_runs


def test_each_pair_is_compared_and_holm_adjusts_for_their_number(tmp_path):
    """A, B and C answer 10 questions right: those of the first, the second, and again the second half."""
    halves = np.arange(20) < 10
    folders = [
        write_run(tmp_path / name, scores, model=name)
        for name, scores in (("a", halves), ("b", ~halves), ("c", ~halves), ("d", [1] * 20))
    ]
    found = compare_runs(read_runs(folders))
    assert [(c.first, c.second) for c in found] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    # McNemar's test of 10 questions against none has p = 2 / 2^10.
    p = stats.binomtest(0, 10).pvalue
    by_pair = {c.first + c.second: c for c in found}
    assert p == 2 / 1024
    assert by_pair["ad"].pair.flipped == pytest.approx(p)
    # Holm multiplies the smallest of six p-values by 6. Three are equal, so all three have that.
    assert [by_pair[name].p_value for name in ("ad", "bd", "cd")] == pytest.approx([6 * p] * 3)
    assert by_pair["bc"].p_value == 1
    cells = by_pair["ad"].cells()
    assert (cells["A"], cells["B"], cells["B − A"]) == ("a: 50.00", "d: 100.00", "+50.00")
    assert (cells["A better"], cells["B better"], cells["questions"], cells["drawn"]) == (0, 10, 20, "–")
    assert cells["clear"] == "yes" and by_pair["ab"].cells()["B − A"] == "+0.00"


def test_only_questions_that_both_have_scores_of_are_compared(tmp_path):
    first = write_run(tmp_path / "a", [1, 0, None], model="a")
    second = write_run(tmp_path / "b", [1, 1, 1, 1], model="b")
    other = write_run(tmp_path / "c", [1], model="c", dataset="gqa")
    (found,) = compare_runs(read_runs([first, second, other]))
    assert found.numbers["questions"] == 2 and (found.pair.first, found.pair.second) == (50, 100)
