"""Sources of a model: its teachers, its data, the weights it starts from, and their own sources."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ...models.names import LIBRARIES, is_hub_id, parse_name
from ...recipe_io.foreign import read_yaml
from ...recipe_io.results import read_written
from .markdown import public

# Names of `datasets`' builders; `data_dir` or `data_files` name their files.
BUILDERS = ("imagefolder", "webdataset", "csv", "json", "parquet", "text")


class Source(NamedTuple):
    """A thing that a model was made of; `hub` is its Hub id, if it has one."""

    role: str
    name: str
    hub: str | None = None


def read_recipe(folder: Path) -> dict[str, Any]:
    """Read the `recipe.yaml` of a run; empty if there is none."""
    path = folder / "recipe.yaml"
    words = {"allowed": "It must be the recipe of a run.", "fix": "Correct it, or move it away."}
    return read_yaml(path, **words) if path.is_file() else {}


def sources(recipe: Mapping[str, Any], of: str = "", above: frozenset[str] = frozenset()) -> list[Source]:
    """List all that the recipe of a run names, and then all that the recipes in its folders name."""
    found = []
    for role, name in _models(recipe):
        found.append(Source(role + of, public(name), hub_model(name)))
        own = read_recipe(Path(name)) if name not in above else {}
        if Path(name, "oracle.json").is_file():
            # recipes/prime_lm.py knows one world, and its recipe does not name it.
            own = {"dataset_name": "shapes"} | own
        found += sources(own, f" of {public(name)}", above | {name})
    for entry in data_entries(recipe):
        name = data_name(entry)
        # The files of a builder are not on the Hub.
        hub = None if entry.get("dataset_name", "imagefolder") in BUILDERS else hub_data(name)
        found.append(Source("data" + of, public(name), hub))
    return list(dict.fromkeys(found))


def without_paths(
    found: Iterable[Source], recorded: Iterable[Source] | None, recipe: Mapping[str, Any]
) -> list[Source]:
    """
    Return the sources that were found now, without Hub ids that are local paths in truth.

    Once its folder is gone, or on another machine, a path of two parts looks like a Hub id. A source that was recorded
    without a Hub id, while the run had it, was such a path.

    Args:
        found (`Iterable[Source]`): Sources by the names alone.
        recorded (`Iterable[Source]`, *optional*): The same sources as the run itself saw them.
        recipe (`Mapping`):
            The recipe of the run. Where nothing is recorded, names beside its `output_dir` are paths.
    """
    root = PurePath(recipe.get("output_dir") or ".").parts[:1]
    local = {source.name for source in recorded or () if source.hub is None}

    def is_path(name: str) -> bool:
        return name in local or (recorded is None and PurePath(name).parts[:1] == root)

    return [
        source._replace(hub=None) if source.hub == source.name and is_path(source.name) else source for source in found
    ]


def _models(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (("teacher", name) for name in teacher_names(recipe))
    for key, role in (
        ("model_name_or_path", "starting weights"),
        ("init_image_tower", "starting weights"),
        ("vision_tower", "vision tower"),
        ("language_model", "language model"),
    ):
        name = recipe.get(key)
        # Presets and JSON files are fresh weights. Any other name without a slash is a preset of another version.
        if (
            name
            and parse_name(name).kind not in ("preset", "json")
            and (os.path.isdir(name) or re.search("[/:]", name))
        ):
            yield role, name


def teacher_names(recipe: Mapping[str, Any]) -> list[str]:
    """Return the teachers of a recipe as it names them."""
    teachers = recipe.get("teacher_model_name_or_path") or []
    teachers = [teachers] if isinstance(teachers, str | Mapping) else teachers
    entries = [teacher if isinstance(teacher, Mapping) else {"name": teacher} for teacher in teachers]
    return [entry[key] for entry in entries for key in ("name", "tokens_from") if key in entry]


def data_entries(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the arguments of each data set that a recipe trains on."""
    return recipe.get("datasets") or ([recipe] if "dataset_name" in recipe else [])


def data_name(entry: Mapping[str, Any]) -> str:
    """Return the name of a data set, or the files that a builder reads."""
    name = entry.get("dataset_name") or "imagefolder"
    return str(entry.get("data_dir") or entry.get("data_files") or name) if name in BUILDERS else name


def hub_model(name: str) -> str | None:
    """Return the Hub id behind a name of a teacher or tower, `None` if it has none."""
    parsed = parse_name(name)
    if parsed.kind in LIBRARIES:
        return LIBRARIES[parsed.kind].hub_id(parsed)
    card = Path(name, "card.json")
    if card.is_file():  # The folder was pushed itself.
        return read_written(card).get("repo_id")
    return _hub_id(name)


def hub_data(name: str) -> str | None:
    """Return the Hub id behind a name of a data set, `None` if it has none."""
    return None if re.search(r"\.(csv|tsv|jsonl?|parquet|tar|zip)$", name) else _hub_id(name)


def _hub_id(name: str) -> str | None:
    # Relative paths look like Hub ids. An existing folder comes first.
    return name if is_hub_id(name) and not os.path.exists(name) else None
