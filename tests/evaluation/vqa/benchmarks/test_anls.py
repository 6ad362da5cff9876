"""ANLS: values by hand, and against the recursion and the formula as they are published."""

import functools
import random

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.anls import anls, edit_distance


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("kitten", ["kitten"], 1),
        ("KITTEN", ["kitten"], 1),
        ("sitting", ["kitten"], 1 - 3 / 7),
        ("sitting", ["kitten", "sittings"], 1 - 1 / 8),
        ("abcd", ["abxy"], 0.5),
        ("abcd", ["axyz"], 0),  # one quarter is below the threshold
        ("", ["a"], 0),
        ("", [""], 1),
        ("a  b", ["a b"], 1),
        ("12 %", ["12%"], 0.75),
    ],
)
def test_by_hand(prediction, answers, score):
    assert anls(prediction, answers) == pytest.approx(score)


def test_the_length_is_that_of_the_raw_texts():
    # The distance of "a b" and "a c" is 1, and the raw prediction has 5 characters.
    assert anls("a   b", ["a c"]) == pytest.approx(1 - 1 / 5)


def lev(a, b):
    """Compute the Levenshtein distance by its definition."""

    @functools.cache
    def d(i, j):
        if 0 in (i, j):
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def test_against_the_definition():
    rng = random.Random(0)
    words = ["".join(rng.choices("aAb ", k=rng.randrange(8))).strip() for _ in range(60)]
    for _ in range(150):
        prediction, *answers = rng.sample(words, 3)
        assert edit_distance(prediction, answers[0]) == lev(prediction, answers[0])
        # NLS of Biten et al.: 1 - NL if NL < 1/2 (here: up to 1/2, as in the challenge's script), else 0.
        nls = []
        for answer in answers:
            plain = [" ".join(text.lower().split()) for text in (answer, prediction)]
            longest = max(len(answer), len(prediction))
            nls.append(1 - lev(*plain) / longest if longest else 1)
        expected = max(nls) if max(nls) >= 0.5 else 0
        assert anls(prediction, answers) == pytest.approx(expected)
