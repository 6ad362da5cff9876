"""Letters of options in free answers, by the rules of Cambrian-1 and of lmms-eval."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_clip_kd.evaluation.vqa.files import Source

# lmms-eval also has phrases in Korean, Chinese and Japanese, which are left out here.
_PHRASES = tuple(
    f"{start}{noun} is"
    for noun, starts in {
        "answer": ("", "the ", "correct ", "the correct ", "best ", "the best ", "my "),
        "option": ("correct ", "the correct ", "best ", "the best "),
        "choice": ("", "the ", "correct ", "the correct ", "my "),
    }.items()
    for start in starts
) + ("i choose", "i select", "i pick")
_MARKS = ("({letter})", "{letter}.", "{letter}:", "{letter})", "{letter} ", "{letter}")
_FIRST_LETTER = re.compile(r"[\(\s]*([A-Z])", re.IGNORECASE)


def options_by_letter(choices: Sequence[str]) -> dict[str, str]:
    """Return the texts of the options by their letters A, B, ..."""
    return {chr(ord("A") + i): text for i, text in enumerate(choices)}


def said_answer(text: str) -> str:
    """
    Return the text behind the last "answer is" or "answer:" in lower case, or else all of it.

    The first step of [Cambrian-1](https://github.com/cambrian-mllm/cambrian)'s scripts. "The answer is: B" gives
    ": b", so the colon hides the letter there, too.
    """
    text = text.lower().strip()
    for keyword in ("answer is", "answer:"):
        text = text.split(keyword)[-1]
    return text.strip()


def cambrian_letter(text: str, marks: str = ".:,") -> str:
    """
    Read the letter of an option as Cambrian-1 does; `""` if there is no text.

    It is the first character, in upper case, of [`said_answer`] without `marks` at the end and without brackets. So
    "blue" names B.
    """
    return said_answer(text).rstrip(marks).lstrip("(").rstrip(")")[:1].upper()


def first_letter(text: str) -> str:
    """
    Read the letter of an option as lmms-eval does in CV-Bench; `""` if there is none.

    It is the first character in any case, behind spaces and brackets. So "blue" names B.
    """
    found = _FIRST_LETTER.match(text)
    return found[1].upper() if found else ""


def option_letter(text: str, letters: Sequence[str]) -> str:
    """
    Read the letter of an option as lmms-eval 0.7.3 does in BLINK; `""` if there is none.

    The first rule that finds one of `letters` (any if there are none) decides, and of several the last in the text:

    1. The first line has four characters at most, and is the letter with brackets or marks.
    2. It stands behind "answer", "answer is" or "answer:".
    3. It is a capital in brackets.
    4. It starts the text, even as a part of a word.
    """
    text, known = text.strip(), f"[{''.join(letters) or 'A-Z'}]"
    line = text.split("\n", 1)[0].strip()
    short = re.match(rf"\(?({known})\)?[.\s:,)]*$", line, re.IGNORECASE) if len(line) <= 4 else None
    if short:
        return short[1].upper()
    told = re.findall(rf"answers?(?:\s+is)?\s*[:-]?\s*\(?({known})\)?(?![A-Za-z])", text, re.IGNORECASE)
    found = told or re.findall(rf"\(({known})\)", text) or re.findall(rf"\A[(\s]*({known})", text, re.IGNORECASE)
    return found[-1].upper() if found else ""


def lmms_letter(text: str, letters: str = "ABCD") -> str:
    """
    Read the letter of an option as lmms-eval does in MMStar and RealWorldQA; `""` if there is none.

    Marks are stripped from both ends. Then the first rule that finds a capital letter decides, and of several letters
    the last in the text:

    1. It starts the text, or 2. ends it, and no other letter touches it there.
    3. It is the first of its kind behind a phrase such as "the answer is" or "I choose".
    4. It stands as `(A)`, then `A.`, `A:`, `A)`, `A ` and at last anywhere, even in a word.
    """
    text = text.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    for alone in (bare[:1] if not bare[1:2].isalpha() else "", bare[-1:] if not bare[-2:-1].isalpha() else ""):
        if alone and alone in letters:
            return alone
    lower = text.lower()
    ends = [lower.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lower]
    said = [(text.find(letter, end), letter) for end in ends for letter in letters if letter in text[end:]]
    if said:
        return max(said)[1]
    for mark in _MARKS:
        found = [(text.rfind(mark.format(letter=letter)), letter) for letter in letters]
        if max(found)[0] >= 0:
            return max(found)[1]
    return ""


def right_choice(source: Source, where: str, answer: str, choices: Sequence[str]) -> tuple[str, list[str]]:
    """
    Return the letter of the right choice and the letters of all, from an answer such as `(A)`.

    Raises:
        ForeignFileError: if the answer is not the letter of a choice.
    """
    letter, letters = answer.strip("()"), list(options_by_letter(choices))
    if letter not in letters:
        raise source.error(f"`answer` is {answer!r}, not the letter of a choice", where)
    return letter, letters


def lmms_note(letters: Sequence[str]) -> str:
    """Return the sentence that lmms-eval puts in front of a question of BLINK or CV-Bench."""
    return f"Note: You only need to respond with {', '.join(letters)} without providing any additional information."
