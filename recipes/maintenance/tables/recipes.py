"""Recipes: one row for each script and for each YAML, with the first sentence of its header."""

import ast
import re
from pathlib import Path

from .markdown import render

RECIPES = Path(__file__).parents[2]


def first_sentence(text: str) -> str:
    """Return a text's first sentence without its period."""
    return re.split(r"\.(?=\s|$)", " ".join(text.split()), maxsplit=1)[0]


def header(path: Path) -> str:
    """Return the comment at the head of a YAML."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = re.match(r"(#[^\n]*\n)+", "\n".join([*lines, ""]))
    return re.sub(r"^# ?", "", comment[0], flags=re.MULTILINE)


def scripts() -> str:
    """Return the table of scripts."""
    rows = []
    for path in sorted(RECIPES.glob("*.py")):
        does = first_sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
        demo = Path("configs", path.stem, "demo.yaml")
        rows.append((f"`{path.name}`", does, f"`{demo}`" if (RECIPES / demo).is_file() else "–"))
    return render(("script", "does", "without `--config`"), rows)


def configs() -> str:
    """Return the table of YAMLs, those of one script together."""
    rows = []
    for path in sorted((RECIPES / "configs").glob("*/*.yaml"), key=lambda path: path.with_suffix("").parts):
        rows.append((f"`{path.parent.name}/{path.name}`", first_sentence(header(path))))
    return render(("file in `configs/`", "is"), rows)
