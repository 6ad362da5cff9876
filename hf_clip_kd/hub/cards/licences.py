"""Licence of a model: what its teachers and data allow, if known."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import timm

from ...models.names import parse_name

# Most liberal first.
USES = ("any", "non-commercial", "research")
NON_COMMERCIAL = ("cc-by-nc", "apple-amlr", "fair-noncommercial")
PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")


class Licence(NamedTuple):
    """Licence of one teacher or data set."""

    licence: str
    use: str
    note: str
    read_in: str


@cache
def known() -> list[dict[str, Any]]:
    """Return the table of `licences.json`: patterns of names, and where each licence was read."""
    return json.loads(Path(__file__).with_name("licences.json").read_text(encoding="utf-8"))


def licence_of(name: str) -> Licence | None:
    """
    Return the licence of a teacher or data set by its name, a Hub id or `timm:NAME`.

    Our table comes first, then the licence that timm gives for its weights. An unknown licence is `None`.
    """
    for entry in known():
        if any(fnmatch(name.lower(), pattern.lower()) for pattern in entry["names"]):
            return Licence(entry["licence"], entry["use"], entry["note"], entry["read_in"])
    parsed = parse_name(name)
    weights = parsed.rest if parsed.kind == "timm" else name.removeprefix("timm/")
    if "//" in weights:  # a file of this machine, of anybody's making
        return None
    found = timm.get_pretrained_cfg(weights) if weights != name and timm.is_model(weights.split(".")[0]) else None
    licence = getattr(found, "license", None)
    if licence in (None, "unknown"):
        return None
    use = "any" if licence in PERMISSIVE else "non-commercial" if licence.startswith(NON_COMMERCIAL) else "unclear"
    return Licence(licence, use, "", "timm's table of weights")


def inherit(sources: dict[str, Licence | None], own: str | None) -> tuple[str | None, list[str]]:
    """
    Return the licence of a model made of `sources`, and warnings about it.

    Args:
        sources (`dict[str, Licence | None]`): Licence of each teacher, data set and starting model, by name.
        own (`str`, *optional*): The author's choice. Default is the strictest of the sources, if all are known.

    Returns:
        `tuple`: The licence (`None` if unknown) and warnings of one sentence each.
    """
    limits = {name: found for name, found in sources.items() if found is not None and found.use in USES[1:]}
    open_questions = [name for name, found in sources.items() if found is None or found.use == "unclear"]
    warnings = []
    for name, found in limits.items():
        allowed = "research" if found.use == "research" else "non-commercial use"
        if own is not None and own != found.licence and not own.startswith(NON_COMMERCIAL):
            warnings.append(
                f"The licence {own} gives more than {name} allows, which is {found.licence}: {allowed} only."
            )
        else:
            warnings.append(f"Because of {name} ({found.licence}), this model is for {allowed} only.")
    for name in open_questions:
        found = sources[name]
        about = "is not known" if found is None else f"({found.licence}) is left to you"
        warnings.append(f"What the licence of {name} allows {about}: find out before you share or use the weights.")
    if own is None and limits:
        own = max(limits.values(), key=lambda found: USES.index(found.use)).licence
    elif own is None and sources and not open_questions:
        own = next(iter(sources.values())).licence
    return own, warnings


def metadata(licence: str | None) -> dict[str, str]:
    """Return the licence as keys of a card's metadata."""
    if licence is None:
        return {}
    # The Hub does not know timm's own names, such as `dinov3-license`.
    return {"license": "other", "license_name": licence} if licence.endswith("-license") else {"license": licence}
