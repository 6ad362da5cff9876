"""Normalisation of answers against the values that the published code gives."""

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.normalize import normalize_m4c, normalize_vqav2

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
