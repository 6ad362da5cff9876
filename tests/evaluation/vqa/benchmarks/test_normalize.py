"""Normalisation and soft accuracy against the values that the published scorers give."""

import itertools

import pytest

from hf_clip_kd.evaluation.vqa.normalize import normalize_m4c, normalize_vqav2
from hf_clip_kd.evaluation.vqa.soft_accuracy import both_m4c, both_vqav2, llava, official, official_2016, soft_accuracy

# Input, M4C processor, official VQAv2. Values of the published code.
PROBES = [
    ("The Dog.", "dog", "dog"),
    ("3,000", "3000", "3000"),
    ("it's", "it 's", "it's"),
    ("the dog's", "dog 's", "dog's"),
    ("it's 3,5 o'clock", "it 's 35 o'clock", "it's 35 o'clock"),
    ("dont", "don't", "don't"),
    ("Id've", "id've", "id've"),
    ("U.S.A.", "usa", "usa"),
    (".5", ".5", ".5"),
    ("2.5", "2.5", "2.5"),
    ("5:30", "5:30", "5:30"),
    ("7-8", "7 8", "7 8"),
    ("a/b", "b", "b"),
    ("none", "0", "0"),
    ("Two", "2", "2"),
    ("a", "", ""),
    ("red / white", "red white", "red white"),
    ("1 , 2", "1 2", "1 2"),
    ("hello-", "hello", "hello"),
    ("", "", ""),
    (" \n\t ", "", ""),
    ("yes\nno", "yes no", "yes no"),
    ("somebody'd", "somebodyd", "somebodyd"),
    ("couldn'tve couldnt've", "couldn't've couldn't've", "couldn't've couldn't've"),
    ("ow's'at", "ow 's'at", "'ow's'at"),
    ("yall'd've", "y'all'd've", "y'all'd've"),
    ("what?", "what", "what"),
    ("red,blue", "redblue", "red blue"),
    ("$5 & 50%", "$5 & 50%", "$5 & 50%"),
]


@pytest.mark.parametrize(("text", "m4c", "vqav2"), PROBES)
def test_normalisation(text, m4c, vqav2):
    assert normalize_m4c(text) == m4c
    assert normalize_vqav2(text) == vqav2


def test_only_the_first_32_periods_go():
    assert normalize_vqav2("." * 40) == "." * 8


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in (1, 2, 3, 9, 10) for m in range(n + 1)])
def test_soft_accuracy_is_the_mean_over_leave_one_out_sets(n, m):
    answers = ["yes"] * m + [f"other {i}" for i in range(n - m)]
    sets = itertools.combinations(answers, n - 1)
    expected = sum(min(1, others.count("yes") / 3) for others in sets) / n
    assert soft_accuracy("yes", answers) == pytest.approx(expected)


def test_soft_accuracy_of_ten():
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
