"""Each sentence of docs/security.md names the test that holds it."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_sentence_of_the_page_has_its_test():
    text = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"^\|.*\| test \|\n[| -]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(tables) == 6 and len(rows) > 65
    for row in rows:
        assert NAMED.search(row), row
    # Each part of the page has such a table, except the last, which shows what commands have counted.
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:-1]:
        assert NAMED.search(part), part
    for path, name in NAMED.findall(text):
        source = (PAGE.parents[1] / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"
