"""Parsing of free answers to MMMU questions: a letter, or numbers and phrases to compare."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from hf_clip_kd.evaluation.vqa.benchmarks.letters import options_by_letter

_KEY_PHRASES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,234
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1.2e3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def read_choice(text: str, choices: Sequence[str], rng: random.Random, protocol: str = "llava") -> str:
    """
    Read the letter that an answer means, by the rules of the
    [official script](https://github.com/MMMU-Benchmark/MMMU) ([MMMU](https://huggingface.co/papers/2311.16502)).

    The marks `, . ! ? ; : '` are stripped from its ends. The first rule that finds a letter decides:

    1. `(A)`.
    2. ` A ` between spaces.
    3. The text of an option in any case, in an answer of more than five words.

    Among several letters the one with the latest mention counts. If no rule finds one, `rng` draws a letter.

    The protocol lmms_eval has two rules in place of the second: `A ` after any character, then `A.`. Among several
    letters of these two the last ` A ` between spaces counts, or else the first letter of the alphabet.
    """
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = list(options_by_letter(choices))
    bracketed, spaced = (lambda letter: f"({letter})"), (lambda letter: f" {letter} ")
    # Each rule has a pattern to find, and a pattern that locates the last mention among several.
    rules: list[tuple[Callable[[str], str], Callable[[str], str]]] = [(bracketed, bracketed), (spaced, spaced)]
    if protocol == "lmms_eval":
        rules = [(bracketed, bracketed), (lambda letter: f"{letter} ", spaced), (lambda letter: f"{letter}.", spaced)]
    for find, locate in rules:
        found = [letter for letter in letters if find(letter) in text]
        if found:
            return max(found, key=lambda letter: text.rfind(locate(letter)))
    if len(text.split()) > 5:
        text = text.lower()
        mentions = {letter: text.rfind(choice.lower()) for letter, choice in zip(letters, choices, strict=True)}
        if max(mentions.values()) >= 0:
            return max(mentions, key=mentions.get)
    return rng.choice(letters)


def normalize_open(text: str) -> list[str | float]:
    """Round a number to two decimals. Lower the case of a text, with a space on either side of a lone character."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def read_open(text: str) -> list[str | float]:
    """
    List the possible meanings of an answer to an open question.

    They are the shortest end after a key phrase ("is", "answer", "so", ..., in the last line also "=") of each line,
    and every number in those ends. Without a key phrase the whole answer is the only end.
    """
    text = text.strip().strip(".").lower()
    # The published code also splits at a period before a capital, but lower case has no capitals.
    lines = text.split("\n")
    ends = []
    for i, line in enumerate(lines):
        phrases = _KEY_PHRASES + (("=",) if i == len(lines) - 1 else ())
        tails = [line.rsplit(phrase, 1)[-1].strip() for phrase in phrases if phrase in line]
        shortest = ""
        for tail in tails:
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in list(":,.!?;'"):
            ends.append(shortest)
    ends = ends or [text]
    numbers = [number for end in ends for pattern in _NUMBERS for number in pattern.findall(end)]
    return [meaning for part in ends + numbers for meaning in normalize_open(part)]


def open_is_correct(text: str, answers: Sequence[str]) -> bool:
    """Tell if a number in the answer equals an accepted one, or a phrase in it contains an accepted one."""
    accepted = [meaning for answer in answers for meaning in normalize_open(answer)]
    return any(
        any(isinstance(right, str) and right in meaning for right in accepted)
        if isinstance(meaning, str)
        else meaning in accepted
        for meaning in read_open(text)
    )
