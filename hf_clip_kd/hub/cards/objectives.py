"""The losses of a run, each with its weight and the facts of its class."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from ...losses import LOSSES, OBJECTIVES
from ...losses.specification import expanded, loss_of, parse
from .markdown import Markdown, code, link


class Objective(NamedTuple):
    """One loss of a run, as Markdown."""

    name: Markdown
    weight: str
    options: Markdown | None
    teaches: str
    formula: Markdown | None
    paper: Markdown | None


def objectives(losses: str | dict[str, Any] | None) -> list[Objective]:
    """Return the terms of a recipe's `losses`, without those of weight 0. `None` has no terms."""
    if losses is None:
        return []
    rows = []
    for name, spec in expanded(losses).items():
        cls = LOSSES.get(loss_of(name))
        weight, options = parse(name, spec, cls.default_weight if cls else 1.0)
        if weight.peak == 0:
            continue
        # A loss of the user's own is not imported: a card is rendered where its code may not be.
        teaches = cls.teaches if cls else "A loss of the author's own."
        formula = code(cls.formula) if cls else None
        written = yaml.safe_dump(options, default_flow_style=True, sort_keys=False, width=1000).strip()
        paper = link(cls.paper["title"], f"https://huggingface.co/papers/{cls.paper['id']}") if cls else None
        rows.append(Objective(code(name), str(weight), code(written) if options else None, teaches, formula, paper))
    return rows


def shorthand(losses: Any) -> str | None:
    """Return the name of a published sum of losses, if the recipe names one."""
    names = [losses] if isinstance(losses, str) else list(losses or [])
    return names[0] if len(names) == 1 and names[0] in OBJECTIVES else None
