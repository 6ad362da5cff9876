"""Manifest of a cache: its teachers, their views, the data and the stored type. The JSON file never changes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...data.transforms.random_crop import RandomCrop
from ...losses.features import FeatureRequest
from ...models.towers.checksum import tower_checksum
from ...recipe_io.foreign import ForeignFileError, fields, read_json
from ...recipe_io.results import write_whole

NAME = "cache.json"
REQUEST = ("layer", "teacher_layer", "patch_embeds", "token_moments", "mask_ratio")
DIMS = ("embed_dim", "token_dim", "has_text", "has_bias")  # Widths that a teacher has.


def members_of(teacher: Any) -> list[Any]:
    """Return the teachers of an ensemble, or the teacher itself in a list."""
    return list(getattr(teacher, "members", [teacher]))


def describe(teacher: Any) -> dict[str, Any]:
    """Describe a teacher for the time when it is gone: its features, and values that tell it from another."""
    return {
        "weights": tower_checksum(teacher),
        "dtype": str(next((tensor.dtype for tensor in teacher.state_dict().values()), None)),
        "dims": {name: value for name, value in asdict(teacher.dims).items() if name in DIMS},
        "logit_scale": None if teacher.logit_scale is None else teacher.logit_scale.item(),
        "logit_bias": None if teacher.logit_bias is None else teacher.logit_bias.item(),
        "image_grid": getattr(teacher, "image_grid", None),
    }


def claim(folder: Path, manifest: dict[str, Any]) -> None:
    """
    Make `folder` a cache of `manifest`, or find that it already is one.

    Raises:
        ValueError: It is a cache of something else. The message names each difference.
    """
    path = folder / NAME
    if path.is_file():
        refuse_if_different(folder, read(folder), manifest)
        return
    write_whole(path, json.dumps(manifest, indent=2, sort_keys=True, default=str) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """
    Read the manifest of a cache.

    Raises:
        ValueError: The folder is no cache, or its manifest is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise ForeignFileError(
            f"The teacher cache {str(folder)!r} does not exist: there is no {path}. It must be a folder that "
            "recipes/cache_teacher.py wrote. Write it first: "
            "`python recipes/cache_teacher.py --output_dir FOLDER ...`."
        )
    words = {
        "allowed": "It must be the manifest that recipes/cache_teacher.py wrote.",
        "fix": "Write the cache again.",
    }
    content = read_json(path, **words)
    kinds = {"teachers": list[dict], "settings": dict, "request": dict}
    fields(content, kinds, path, where="the file", **words)
    return content


def drop_alpha(folder: Path) -> float:
    """Return the `drop_alpha` that the cache in `folder` was begun with, or the default for a new one."""
    if not (folder / NAME).is_file():
        return RandomCrop.drop_alpha
    return read(folder)["settings"].get("drop_alpha", 0.0)  # Caches of older versions lie on white.


def refuse_if_different(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise a `ValueError` that names every value of the cache in `folder` that differs in this run."""
    found = differences(there, json.loads(json.dumps(here, default=str)))
    if found:
        raise ValueError(
            f"The teacher cache {str(folder)!r} belongs to something else: {'; '.join(found)}. A cache serves the "
            "teachers, preprocessing, data and dtype it was written with. Restore them, or write another cache: "
            "`python recipes/cache_teacher.py --output_dir ANOTHER_FOLDER ...`."
        )


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """List `name is VALUE in the cache, VALUE here` for each leaf that differs."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = dict.fromkeys([*here, *there])
        pairs = [(f"{name}.{key}".lstrip("."), there.get(key), here.get(key)) for key in names]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{name}[{i}]", *values) for i, values in enumerate(zip(there, here, strict=True))]
    else:
        return [] if there == here else [f"{name} is {there!s:.80} in the cache, {here!s:.80} here"]
    return [line for key, old, new in pairs for line in differences(old, new, key)]


def narrowed(there: dict[str, Any], request: FeatureRequest) -> dict[str, Any]:
    """
    Return the manifest of the cache that would have been written for `request` alone.

    Args:
        there (`dict`): The manifest of a cache that holds all of `request`.
        request ([`FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].
    """
    kept = stored_request(request)
    if kept == there["request"]:
        return there
    teachers = there["teachers"]
    if request.teacher_layer is None:
        teachers = [teacher | {"dims": teacher["dims"] | {"token_dim": None}} for teacher in teachers]
        if not request.patch_embeds:
            teachers = [teacher | {"image_grid": None} for teacher in teachers]
    return there | {"teachers": teachers, "request": kept}


def stored_request(request: FeatureRequest) -> dict[str, Any]:
    """Return the part of a request that changes what a cache holds, in the form of its manifest."""
    kept = asdict(FeatureRequest(teacher_layer=request.teacher_layer, patch_embeds=request.patch_embeds))
    return {name: value for name, value in kept.items() if name in REQUEST}


def part(there: Any, here: Any) -> Any:
    """Keep the keys of `there` that `here` has as well."""
    if isinstance(there, dict) and isinstance(here, dict):
        return {key: part(value, here[key]) for key, value in there.items() if key in here}
    return there
