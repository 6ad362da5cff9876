"""The losses of a run, each with its weight, formula and paper: taken from the classes and their docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import yaml

from ...losses import LOSSES, OBJECTIVES
from ...losses.specification import expanded, parse
from .markdown import Markdown, code, link


class Objective(NamedTuple):
    """One loss of a run, as Markdown."""

    name: Markdown
    weight: str
    options: Markdown | None
    what: str
    formula: str
    paper: Markdown | None


def objectives(losses: str | dict[str, Any] | None) -> list[Objective]:
    """The terms of `losses`, as a recipe has it, without those of weight 0; none where there is no such thing."""
    if losses is None:
        return []
    rows = []
    for name, spec in expanded(losses).items():
        cls = LOSSES.get(name)
        weight, options = parse(name, spec, cls.default_weight if cls else 1.0)
        if weight == 0:
            continue
        # A loss of the user's own is not imported: a card is rendered where its code may not be.
        what, formula = explained(cls) if cls else ("A loss of the author's own.", "")
        written = yaml.safe_dump(options, default_flow_style=True, sort_keys=False, width=1000).strip()
        paper = link(cls.paper["title"], f"https://huggingface.co/papers/{cls.paper['id']}") if cls else None
        rows.append(Objective(code(name), f"{weight:g}", code(written) if options else None, what, formula, paper))
    return rows


def shorthand(losses: Any) -> str | None:
    """The name of a published sum of losses, if that is what a recipe has."""
    names = [losses] if isinstance(losses, str) else list(losses or [])
    return names[0] if len(names) == 1 and names[0] in OBJECTIVES else None


def explained(cls: type) -> tuple[Markdown, Markdown]:
    """The first two paragraphs of a loss's docstring, which say what it does and how it is computed."""
    what, formula = (" ".join(paragraph.split()) for paragraph in inspect.getdoc(cls).split("\n\n")[:2])
    # The weight of this run stands beside it, whatever the default.
    formula = " ".join(part for part in re.split(r"(?<=\.) ", formula) if not part.startswith("Default weight"))
    # Its paper stands behind it with its title, and references are for readers of the code.
    formula = re.sub(rf" \(\[[^\]]+\]\(https://huggingface.co/papers/{cls.paper['id']}\)\)", "", formula)
    formula = re.sub(r"\[`(\w+)`\](?!\()", r"`\1`", formula)
    return Markdown(what), Markdown(formula)
