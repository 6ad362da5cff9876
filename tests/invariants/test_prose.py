"""The prose of docstrings and comments: first words, sentence lengths, line lengths, no variable `one`."""

from pathlib import Path

import pytest
from prose import problems

ROOT = Path(__file__).parents[2]

FOLDERS = ("hf_clip_kd", "recipes", "tests")


def test_prose_keeps_the_rules():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, message in problems(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["", *found])


LONG = "It " + "is so " * 10 + "here"


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ('"""What a file holds."""', 1, "begins with 'What'"),
        ('def f():\n    """Of all rows, the first."""', 2, "begins with 'Of'"),
        ('class A:\n    """As [`B`], for images."""', 2, "begins with 'As'"),
        ("x = 1  # without a bias", 1, "begins with 'without'"),
        ("x = 1\n# The first line is fine,\n# Whatever stands below.\n\n# To RGB.", 5, "begins with 'To'"),
        (f'"""Name.\n\n{LONG}."""', 3, "22 words"),
        (f"# Short. {LONG},\n# and over two lines.", 1, "26 words"),
        (f'"""Name.\n\nArgs:\n    size (`int`):\n        {LONG}.\n"""', 4, "22 words"),
        (f'"""Name.\n\n- Short\n- {LONG}\n"""', 4, "22 words"),
        (f'"""Name ({LONG})."""', 1, "22 words"),
        ("for one in rows:\n    pass", 1, "`one`"),
        ("x = [one for one in rows]", 1, "`one`"),
        ("x = lambda one: 1", 1, "`one`"),
        (f"x = '{'a' * 120}'", 1, "126 columns"),
    ],
)
def test_a_break_of_a_rule_is_found_with_its_line(source, line, message):
    ((found_line, found),) = problems(source)
    assert found_line == line
    assert message in found


@pytest.mark.parametrize(
    "source",
    [
        '"""`of` is a key here."""',
        f'"""Name.\n\nA block:\n\n    {LONG}, code\n"""',
        f'"""Name.\n\nExample:\n    >>> {LONG}\n"""',
        '"""Name.\n\nArgs:\n' + "    size (`int`): Side in pixels.\n" * 12 + '"""',
        f'"""{"An end. " * 12}"""',
        '"""The loss of `a b c d e f g h i j k l m n o p q r s t u v` (Peng et al. 2019, eq. 3)."""',
        "x = 1  # noqa: without a reason",
        "#!/usr/bin/env python",
        "x = 'what a string says is not checked'",
    ],
)
def test_code_heads_of_entries_and_short_sentences_are_no_break(source):
    assert problems(source) == []
