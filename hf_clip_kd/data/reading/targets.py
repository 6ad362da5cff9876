"""Columns that rows get, `image`, `text` and `synthetic_text`, and the columns of a source that they come from."""

from __future__ import annotations

from typing import Any

from datasets.packaged_modules.webdataset.webdataset import WebDataset

# Names of common sources. They are tried in this order if the default name is missing.
_ALIASES = {
    "image": ("filepath", "file_name", "jpg", "jpeg", "png", "webp", "img"),
    "text": ("title", "caption", "captions", "txt", "json.caption"),
}
_ENDINGS = (*WebDataset.IMAGE_EXTENSIONS, "avif", "heic", "heif", "jxl")
_HOLDS = {"image": "images", "text": "captions", "synthetic_text": "generated captions"}
_ALLOWED = {"image": "images, their bytes, or paths to them"}


class ColumnError(ValueError):
    """Column that the data do not have, or that holds neither images nor captions."""


def sources_of(target: str, name: str, *, tars: bool = False) -> tuple[str, ...]:
    """
    Return the columns that may hold the target, the preferred first.

    Args:
        target (`str`): `"image"`, `"text"` or `"synthetic_text"`.
        name (`str`): Column that the user named. Only the default name has others beside it.
        tars (`bool`, *optional*, defaults to `False`): Whether columns are the endings of files in tars.
    """
    if name != target:
        return (name,)
    endings = _ENDINGS if tars and target == "image" else ()
    return tuple(dict.fromkeys((name, *_ALIASES.get(target, ()), *endings)))


def unknown_column(target: str, name: str, names: list[str], classes: list[str]) -> ColumnError:
    """Return the error for a column that is not among `names`. `classes` are those that hold class labels."""
    hint = (
        f" For captions made of class names, pass `text_column={classes[0]!r}`."
        if classes and target == "text"
        else ""
    )
    return ColumnError(
        f"`{target}_column={name!r}` is not a column of the dataset. Its columns are {names}. "
        f"Pass the one that holds the {_HOLDS[target]}: `{target}_column=...`.{hint}"
    )


def check_apart(used: dict[str, set[str]], names: list[str]) -> None:
    """Check that generated captions come from a column of their own. `used` has the columns of each target."""
    shared = used.get("synthetic_text", set()) & set().union(used.get("image", ()), used.get("text", ()))
    if shared:
        raise ColumnError(
            f"`synthetic_text_column={min(shared)!r}` is also the column of the images or captions. It must be "
            f"another of the columns {names}. Pass it, or leave `synthetic_text_column` out."
        )


def wrong_column(target: str, name: str, held: Any, names: list[str]) -> ColumnError:
    """Return the error for a column that holds neither images nor captions."""
    allowed = _ALLOWED.get(target, "strings, lists of strings, numbers or class labels")
    return ColumnError(
        f"`{target}_column={name!r}` holds {held}. It must hold {allowed}. "
        f"Pass another of the columns {names}: `{target}_column=...`."
    )
