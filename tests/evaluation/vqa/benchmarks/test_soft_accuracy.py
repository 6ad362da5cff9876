"""Soft accuracy against its definition and the values that the published scorers give."""

import itertools

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.soft_accuracy import (
    agreement,
    both_m4c,
    both_vqav2,
    llava,
    official,
    official_2016,
    soft_accuracy,
)


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in (1, 2, 3, 9, 10) for m in range(n + 1)])
def test_it_is_the_mean_over_leave_one_out_sets(n, m):
    answers = ["yes"] * m + [f"other {i}" for i in range(n - m)]
    sets = itertools.combinations(answers, n - 1)
    expected = sum(min(1, others.count("yes") / 3) for others in sets) / n
    assert soft_accuracy("yes", answers) == pytest.approx(expected)


def test_ten_answers():
    found = [soft_accuracy("yes", ["yes"] * m + ["no"] * (10 - m)) for m in range(11)]
    assert found == pytest.approx([0, 0.3, 0.6, 0.9] + [1] * 7)


SCORERS = (llava, both_vqav2, official, official_2016, both_m4c)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        # All agree: the official scorer compares what stands there, its predecessor normalises the prediction alone.
        ("Yes", ["yes"] * 10, (1, 1, 0, 1, 1)),
        ("the dog", ["the dog"] * 10, (0, 1, 1, 0, 1)),
        # They differ: until 2021 the number words and articles of the people stayed.
        ("2", ["two"] * 9 + ["3"], (1, 1, 1, 0, 1)),
        ("a dog", ["a dog"] * 5 + ["dog"] * 5, (1, 1, 1, 1, 1)),
        # M4C makes a word of 's, the official scorer does not.
        ("it's", ["it's"] * 9 + ["no"], (0, 1, 1, 1, 1)),
        ("", ["yes"] * 9 + ["no"], (0, 0, 0, 0, 0)),
        ("", ["a"] * 9 + ["no"], (1, 1, 1, 0, 1)),
        ("yes it is", ["yes"] * 9 + ["no"], (0, 0, 0, 0, 0)),
    ],
)
def test_the_scorers_differ_where_they_should(prediction, answers, expected):
    assert [scorer(prediction, answers) for scorer in SCORERS] == pytest.approx(list(expected))


@pytest.mark.parametrize("answer", ["red", "Red.", "The 3,000", "it's", "T-shirt", "who, me?", "U.S.A."])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 11])
def test_a_prediction_that_equals_every_answer_scores_one(answer, number):
    assert [scorer(answer, [answer] * number) for scorer in SCORERS] == [1] * len(SCORERS)
    assert [scorer("no", [answer] * number) for scorer in SCORERS] == [0] * len(SCORERS)


def test_fewer_than_four_answers_are_a_share():
    assert [agreement("a", list("abc")[:n]) for n in (1, 2, 3)] == pytest.approx([1, 1 / 2, 1 / 3])
    assert agreement("a", list("aab")) == pytest.approx(2 / 3)
    assert agreement("a", list("aabb")) == soft_accuracy("a", list("aabb")) == pytest.approx((2 / 3 + 4 / 3) / 4)
