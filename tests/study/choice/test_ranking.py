"""Ranking of teachers: order, pairs that cannot be told apart, and what would tell them apart."""

import math
from itertools import combinations

import numpy as np
import pytest
from made_up_choice import made_up_scores

from hf_clip_kd.study.choice.ranking import letter_groups, needed, rank
from hf_clip_kd.study.choice.scores import Scores


def test_rows_come_in_the_order_of_their_pilots_with_gains_over_the_student_alone():
    scores = made_up_scores(alone=0.50, weak=0.52, strong=0.70)
    ranking = rank(scores)
    assert [row.name for row in ranking.rows] == ["strong", "weak", "alone"]
    assert (ranking.metric, ranking.own_metric, ranking.seeds, ranking.images) == (
        "question_probe",
        "question_probe",
        3,
        400,
    )
    strong, alone = ranking.rows[0], ranking.rows[-1]
    mean = {each.name: 100 * each.pilots["question_probe"].mean() for each in scores}
    assert strong.pilots["question_probe"].value == pytest.approx(mean["strong"])
    assert strong.gain.value == pytest.approx(mean["strong"] - mean["alone"]) and strong.gain.clear
    assert alone.gain is None and alone.own == {}
    assert strong.by_seed == pytest.approx(100 * scores[2].pilots["question_probe"].mean(axis=1))


def test_teachers_without_a_clear_difference_share_a_letter():
    ranking = rank(made_up_scores(alone=0.30, weak=0.50, first=0.70, second=0.702))
    assert {row.name: row.letters for row in ranking.rows} == {"second": "a", "first": "a", "weak": "b", "alone": "c"}
    assert set(ranking.best) == {"first", "second"}
    (pair,) = [pair for pair in ranking.pairs if not pair.told_apart]
    assert {pair.first, pair.second} == {"first", "second"}
    # Seeds differ by 1 point in each direction: a difference of less than that does not show.
    assert 1 < ranking.detectable < 10
    assert pair.difference.low < 0 < pair.difference.high and (pair.images_needed or math.inf) > 400


def test_equal_students_are_never_told_apart():
    alone = made_up_scores(alone=0.5)[0]
    same = [Scores(name, alone.pilots) for name in ("alone", "a", "b")]
    ranking = rank(same)
    assert {row.letters for row in ranking.rows} == {"a"} and ranking.best == ["a", "b"]
    assert not any(pair.told_apart for pair in ranking.pairs)


def test_one_seed_tells_nothing_apart():
    scores = [
        Scores(each.name, {name: values[:1] for name, values in each.pilots.items()})
        for each in made_up_scores(alone=0.1, good=0.9)
    ]
    ranking = rank(scores)
    assert not ranking.pairs[0].told_apart and ranking.pairs[0].seeds_needed is None
    assert math.isnan(ranking.detectable)


def test_the_metric_is_the_first_that_all_students_have():
    scores = made_up_scores(alone=0.5, good=0.6)
    scores[1].pilots["zero_shot"] = scores[0].pilots["retrieval"] = scores[1].pilots["retrieval"] = np.ones((3, 4))
    del scores[1].pilots["question_probe"]
    assert rank(scores).metric == "retrieval"


def test_each_metric_of_the_students_has_letters_of_its_own():
    scores = made_up_scores(alone=0.30, good=0.70)
    for each, other in zip(scores, made_up_scores(good=0.60, alone=0.601), strict=True):
        each.pilots["retrieval"] = other.pilots["question_probe"]
    rows = {row.name: row for row in rank(scores).rows}
    assert (rows["good"].letters, rows["alone"].letters) == ("a", "b")
    assert rows["good"].other_letters == rows["alone"].other_letters == {"retrieval": "a"}


@pytest.mark.parametrize(
    ("apart", "letters"),
    [
        ([], {"x": "a", "y": "a", "z": "a"}),
        ([("x", "z")], {"x": "a", "y": "ab", "z": "b"}),
        ([("x", "y"), ("x", "z")], {"x": "a", "y": "b", "z": "b"}),
        ([("x", "y"), ("y", "z")], {"x": "a", "y": "b", "z": "a"}),
        ([("x", "y"), ("x", "z"), ("y", "z")], {"x": "a", "y": "b", "z": "c"}),
    ],
    ids=["none", "ends", "first", "middle", "all"],
)
def test_letters_worked_out_by_hand(apart, letters):
    assert letter_groups(["x", "y", "z"], apart) == letters


def test_names_share_a_letter_exactly_if_they_are_not_told_apart():
    rng = np.random.default_rng(0)
    names = list("pqrstu")
    for _ in range(50):
        apart = [pair for pair in combinations(names, 2) if rng.random() < 0.4]
        letters = letter_groups(names, apart)
        assert all((not set(letters[a]) & set(letters[b])) == ((a, b) in apart) for a, b in combinations(names, 2))


def test_needed_numbers_worked_out_by_hand():
    # Guenther (1981): a t-test needs 7.85 · variance / difference² + 1.92 cases for a power of 80 %.
    # Two seeds have 1 ± 2, and images do not differ. The variance is 8, and 7.85 · 8 + 1.92 = 64.7.
    assert needed(np.array([[3.0] * 10, [-1.0] * 10])) == (65, None)
    # Images differ by 1 ± 1.5, and seeds do not. The variance is 4.5, and 7.85 · 4.5 + 1.92 = 37.2.
    assert needed(np.array([[2.5, -0.5]] * 2)) == (None, 38)
