"""Words of the Hub about the card of a repository."""

from __future__ import annotations

import re
from typing import Any

import yaml

LICENSES = {
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "apple-amlr",
    "openrail",
    "other",
    "unknown",
}


def front_matter(card: str) -> Any:
    """Read the YAML between the first two lines of three dashes, or return `None` without them."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)", card, re.S)
    return yaml.safe_load(found[1]) if found else None


def card_errors(card: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of the metadata, by the rules of the Hub that matter here."""
    try:
        metadata = front_matter(card)
    except yaml.YAMLError as error:
        return [f"YAML parse error: {error}"], []
    if not metadata:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["metadata must be a mapping"], []
    errors = []
    licenses = metadata.get("license") or []
    if set([licenses] if isinstance(licenses, str) else licenses) - LICENSES:
        errors.append(f'"license" must be one of {sorted(LICENSES)}')
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        errors.append('"tags" must be an array of strings')
    for i, model in enumerate(metadata.get("model-index") or []):
        if not model.get("name"):
            errors.append(f'"model-index[{i}].name" is required')
        for j, result in enumerate(model.get("results") or []):
            missing = [key for key in ("task", "dataset", "metrics") if not result.get(key)]
            errors += [f'"model-index[{i}].results[{j}].{key}" is required' for key in missing]
    return errors, []
