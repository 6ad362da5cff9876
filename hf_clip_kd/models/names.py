"""Names of models: the one table of prefixes, read by students, teachers, towers, evaluation and cards."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import timm

from .presets import list_models

PREFIX = re.compile(r"(\w\w+):(?!//)(.*)", re.DOTALL)
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class ModelName:
    """
    A name in its parts.

    Args:
        kind (`str`):
            `"preset"` (one of [`list_models`]), `"folder"` (of this machine), `"json"` (a file like the presets'),
            `"hub"` (an id OWNER/NAME), `"unknown"`, or a prefix such as `"open_clip"`.
        rest (`str`): The name without its prefix.
    """

    kind: str
    rest: str

    @property
    def architecture(self) -> str:
        """ARCHITECTURE in `PREFIX:ARCHITECTURE/WEIGHTS`."""
        return self.rest.partition("/")[0]

    @property
    def weights(self) -> str:
        """WEIGHTS in `PREFIX:ARCHITECTURE/WEIGHTS`: a tag, or a path after a second slash; `""` without any."""
        return self.rest.partition("/")[2]


@dataclass(frozen=True)
class Library:
    """
    A library of models behind a prefix.

    Args:
        forms (`str`): Its names, for error messages.
        hub_id (`Callable[[ModelName], str | None]`): Return the Hub id of the weights, `None` if they have none.
    """

    forms: str
    hub_id: Callable[[ModelName], str | None]


def open_clip_hub_id(name: ModelName) -> str | None:
    if name.architecture.startswith("hf-hub:"):
        return name.rest.removeprefix("hf-hub:").partition("@")[0]
    import open_clip  # The import takes seconds, and most names do without it.

    place = open_clip.get_pretrained_cfg(name.architecture, name.weights).get("hf_hub", "")
    return "/".join(place.split("/")[:2]) or None  # OWNER/NAME/ or OWNER/NAME/FILE


def timm_hub_id(name: ModelName) -> str | None:
    if "//" in name.rest:  # a file of this machine
        return None
    return getattr(timm.get_pretrained_cfg(name.rest), "hf_hub_id", None)


LIBRARIES = {
    "open_clip": Library(
        "'open_clip:ARCH/TAG', 'open_clip:ARCH//path/to/checkpoint.pt', 'open_clip:hf-hub:ORG/REPO' or "
        "'open_clip:local-dir:/path/to/folder'",
        open_clip_hub_id,
    ),
    "timm": Library(
        "'timm:NAME', with a name of timm.list_models(pretrained=True), or 'timm:NAME//checkpoint.safetensors'",
        timm_hub_id,
    ),
}
LIBRARY_FORMS = ", ".join(library.forms for library in LIBRARIES.values())


def parse_name(name: str | os.PathLike) -> ModelName:
    """
    Take a model's name apart.

    A preset comes before a folder of the same name, and a folder before all other forms. Any word before a colon is a
    prefix. Each room has a table of loaders by prefix, and refuses the others.

    Args:
        name (`str` or `os.PathLike`): As a user wrote it.

    Returns:
        [`ModelName`]: its kind, and the name without its prefix.
    """
    name = os.fspath(name)
    if name in list_models():
        return ModelName("preset", name)
    if os.path.isdir(name):
        return ModelName("folder", name)
    if match := PREFIX.fullmatch(name):
        return ModelName(*match.groups())
    if name.endswith(".json"):
        return ModelName("json", name)
    return ModelName("hub" if is_hub_id(name) else "unknown", name)


def is_hub_id(name: str) -> bool:
    """Tell if `name` has the form OWNER/NAME; a path of two parts has it, too."""
    return HUB_ID.fullmatch(name) is not None


__all__ = ["LIBRARIES", "LIBRARY_FORMS", "Library", "ModelName", "is_hub_id", "parse_name"]
