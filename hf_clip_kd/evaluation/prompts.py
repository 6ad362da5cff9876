"""Class names and prompt templates by name, from a JSON file, or as given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from ..recipe_io.foreign import FieldError, ForeignFileError, convert, read_json, read_text

_DATA = Path(__file__).parent / "data"
# ImageNet's names and prompts come out of open_clip, whose lists the published numbers were made with.
_OPEN_CLIP_CLASS_NAMES = {"imagenet1k": "IMAGENET_CLASSNAMES"}
_OPEN_CLIP_TEMPLATES = {"imagenet1k": "OPENAI_IMAGENET_TEMPLATES", "imagenet1k_simple": "SIMPLE_IMAGENET_TEMPLATES"}


def list_class_names() -> list[str]:
    """Return the names that [`load_class_names`] knows."""
    return sorted([*_OPEN_CLIP_CLASS_NAMES, *_read(_DATA / "class_names.json")])


def list_templates() -> list[str]:
    """Return the names that [`load_templates`] knows."""
    return sorted([*_OPEN_CLIP_TEMPLATES, *_read(_DATA / "templates.json")])


def load_class_names(source: str | Path | Sequence[str]) -> list[str]:
    """
    Load class names in the order of the labels. Names may repeat: ImageNet has two "missile", two "sunglasses".

    Args:
        source (`str`, `Path` or sequence of `str`):
            One of [`list_class_names`], a JSON file that holds a list of strings, or the names themselves. A `.txt`
            file has a name on each line.

    Raises:
        ValueError: `source` is unknown or no list of names.
    """
    return _load(source, "class_names", _DATA / "class_names.json", _OPEN_CLIP_CLASS_NAMES)


def load_templates(source: str | Path | Sequence[str]) -> list[str]:
    """
    Load prompt templates, each with `{}` in the place of the class name.

    Args:
        source (`str`, `Path` or sequence of `str`):
            One of [`list_templates`], a JSON file that holds a list of strings, or the templates themselves. A `.txt`
            file has a template on each line.
            CLIP_benchmark's `{c}` is read as `{}`.

    Raises:
        ValueError: `source` is unknown or no list of templates, or a template has no `{}`.
    """
    templates = _load(source, "templates", _DATA / "templates.json", _OPEN_CLIP_TEMPLATES)
    templates = [template.replace("{c}", "{}") for template in templates]
    for template in templates:
        if "{}" not in template:
            origin = f" of {source}" if isinstance(source, str | Path) else ""
            raise ForeignFileError(
                f"The template {template!r}{origin} has no place for the class name. Every template must contain "
                "{}. Write e.g. `templates=['a photo of a {}.']`."
            )
    return templates


def _read(path: Path) -> dict[str, list[str]]:
    return read_json(path, allowed="It must hold lists of strings by name.", fix="Install the package again.")


def _load(source: str | Path | Sequence[str], argument: str, table: Path, open_clip_names: dict) -> list[str]:
    if isinstance(source, str) and source in open_clip_names:
        # The import of open_clip takes seconds, and only ImageNet needs it.
        from open_clip import zero_shot_metadata

        items = getattr(zero_shot_metadata, open_clip_names[source])
        return [item("{}") if callable(item) else item for item in items]
    if isinstance(source, str | Path):
        known = _read(table)
        if str(source) in known:
            return known[str(source)]
        if not Path(source).is_file():
            raise ValueError(
                f"`{argument}={str(source)!r}` is neither a known name nor a file. Known names are "
                f"{sorted([*open_clip_names, *known])}. Pass one of them, a JSON file with a list of strings, a text "
                f"file with a line for each, or the list itself: `{argument}=[...]`."
            )
        if Path(source).suffix == ".txt":
            items = _lines(source)
        else:
            words = {"allowed": "It must hold a list of strings.", "fix": 'Write e.g. `["cat", "dog"]`.'}
            items = read_json(source, object, **words)
    else:
        items = list(source) if isinstance(source, Sequence) else source
    try:
        found, reason = convert(items, list[str]), "it is empty"
    except FieldError as error:
        found, reason = [], f"it {error}"
    if not found:
        raise ForeignFileError(
            f"`{argument}={shorten(str(source), 200)}` is no list of strings ({reason}). A non-empty list of strings "
            f"is needed. Pass e.g. `{argument}=['...', '...']`, or a JSON file with it."
        )
    return found


def _lines(path: str | Path) -> list[str]:
    """Return the lines of a text file, as CLIP_benchmark does: without spaces around them."""
    words = {"allowed": "It must hold a text on each line.", "fix": "Fill the line, or delete it."}
    lines = [line.strip() for line in read_text(path, **words).rstrip().split("\n")]
    if "" in lines:
        raise ForeignFileError(path, f"line {lines.index('') + 1} is empty", **words)
    return lines
