"""Normalisation of short answers by VQAv2 and by the M4C / EvalAI processor."""

from __future__ import annotations

import re

# People leave the apostrophe `*` out and write the apostrophe `'`: `couldn*t've` and `couldn't*ve` both become
# `couldn't've`. The published table also has keys with capitals (`Im`), which no text in lower case can match.
_SPELLINGS = """
ain*t aren*t can*t could*ve couldn*t couldn't*ve couldn*t've didn*t doesn*t don*t hadn*t hadn*t've hadn't*ve
hasn*t haven*t he*d he*d've he'd*ve he*s how*d how*ll how*s isn*t it*d it*d've it'd*ve it*ll ma*am mightn*t
mightn*t've mightn't*ve might*ve mustn*t must*ve needn*t not*ve o*clock oughtn*t *ow's'at 'ow*s'at 'ow's*at
shan*t she*d've she'd*ve should*ve shouldn*t shouldn*t've shouldn't*ve somebody*d've somebody'd*ve somebody*ll
somebody*s someone*d someone*d've someone'd*ve someone*ll someone*s something*d something*d've something'd*ve
something*ll that*s there*d there*d've there'd*ve there*re there*s they*d they*d've they'd*ve they*ll they*re
they*ve *twas wasn*t we*d've we'd*ve we*ve weren*t what*ll what*re what*s what*ve when*s where*d where*s
where*ve who*d who*d've who'd*ve who*ll who*s who*ve why*ll why*re why*s won*t would*ve wouldn*t wouldn*t've
wouldn't*ve y*all y*all'll y'all*ll y*all'd've y'all*d've y'all'd*ve you*d you*d've you'd*ve you*ll you*re
you*ve
"""
_CONTRACTIONS = {word.replace("*", ""): word.replace("*", "'") for word in _SPELLINGS.split()}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # sic
_NUMBERS = {"none": "0"} | {
    word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
# The official code passes `re.UNICODE`, which is 32, as the number of replacements of `sub`.
_MAX_PERIODS = 32


def strip_breaks(text: str) -> str:
    """Replace line breaks and tabs by spaces, and strip the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def process_punctuation(text: str) -> str:
    """
    Delete punctuation as VQAv2 does.

    A mark that stands next to a space somewhere in the text is deleted. So is every mark if the text has a digit, a
    comma and a digit in a row. Other marks become spaces. The first 32 periods without a digit behind them are
    deleted. `:`, `'`, `$`, `%`, `&`, `*` and `#` stay.
    """
    delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    table = {ord(mark): "" if delete_all or f"{mark} " in text or f" {mark}" in text else " " for mark in _PUNCTUATION}
    return _PERIOD.sub("", text.translate(table), count=_MAX_PERIODS)


def process_words(text: str) -> str:
    """Lower the case, write number words up to ten as digits, drop articles, restore apostrophes of contractions."""
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def normalize_vqav2(text: str) -> str:
    """
    Normalise an answer as the [official VQA scorer](https://github.com/GT-Vision-Lab/VQA), with its oddities.

    [`process_words`] follows [`process_punctuation`]. "The Dog." -> "dog", "3,000" -> "3000", "7-8" -> "7 8",
    "dont" -> "don't", "U.S.A." -> "usa", "a" -> "".
    """
    return process_words(process_punctuation(strip_breaks(text)))


def normalize_m4c(text: str) -> str:
    """
    Normalise an answer as the M4C or "EvalAI" processor of MMF.

    TextVQA and VizWiz score with it, and LLaVA's VQAv2 submissions go through it. It deletes all `,` and `?`, makes
    `'s` a word ("it's" -> "it 's"), and then follows [`normalize_vqav2`].
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalize_vqav2(text.strip())
