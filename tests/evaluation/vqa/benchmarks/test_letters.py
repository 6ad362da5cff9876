"""Letters of options, by each rule that an evaluation has."""

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.letters import (
    cambrian_letter,
    first_letter,
    lmms_letter,
    option_letter,
    said_answer,
)


@pytest.mark.parametrize(
    ("text", "cambrian", "first", "lmms"),
    [
        ("B", "B", "B", "B"),
        ("b", "B", "B", ""),
        ("(B)", "B", "B", "B"),
        ("B.", "B", "B", "B"),
        ("B. blue", "B", "B", "B"),
        ("(B) blue", "B", "B", "B"),
        ("The answer is B.", "B", "T", "B"),
        ("The answer is: B", ":", "T", "B"),  # sic: Cambrian-1 keeps the colon
        ("Answer: (B)", "B", "A", "B"),
        ("blue", "B", "B", ""),
        ("Blue", "B", "B", "B"),  # sic: a letter in a word
        ("A cat, so C", "A", "A", "A"),  # sic: the article
        ("It is C", "I", "I", "C"),
        ("It is (A), not (C) at all", "I", "I", "C"),
        ("I choose B over it", "I", "I", "B"),
        ("D: the last", "D", "D", "D"),
        ("7", "7", "", ""),
        ("...", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_each_rule(text, cambrian, first, lmms):
    assert (cambrian_letter(text), first_letter(text), lmms_letter(text)) == (cambrian, first, lmms)


def test_only_cv_bench_keeps_a_colon():
    assert (cambrian_letter("(B):"), cambrian_letter("(B):", ".")) == ("B", "B")
    assert (cambrian_letter(":"), cambrian_letter(":", ".")) == ("", ":")


def test_said_answer_is_behind_the_last_phrase():
    assert said_answer(" The answer is not here. My answer is Red ") == "red"
    assert said_answer("Answer: 2") == "2"


def test_lmms_letter_of_other_letters():
    assert (lmms_letter("F", "ABCDEF"), lmms_letter("F")) == ("F", "")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(b).", "B"),
        ("C", ""),  # There are two options.
        ("The correct answer is (B).", "B"),
        ("Answer: a, or is the answer B", "B"),
        ("I pick (A), no, (B) here", "B"),
        ("blue", "B"),  # sic: a letter in a word
        ("The sky", ""),
        ("", ""),
    ],
)
def test_option_letter_is_that_of_a_choice(text, letter):
    assert option_letter(text, ["A", "B"]) == letter
