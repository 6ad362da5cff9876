"""Manifest of a cache: its teachers, their views, the data and the stored type. The JSON file never changes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...data.transforms.random_crop import RandomCrop
from ...losses.features import CLIPDims, FeatureRequest
from ...models.towers.checksum import tower_checksum
from ...recipe_io.checked_tensors import CHECKSUM
from ...recipe_io.foreign import ForeignFileError, fields, read_json
from ...recipe_io.format_version import NAME as VERSION
from ...recipe_io.format_version import check_version
from ...recipe_io.results import write_whole
from ...recipe_io.sealed import check_seal, sealed

NAME = "cache.json"
# Fields of every manifest. Others stand there only if they say something, so a cache of one layer is as it always was.
REQUEST_FIELDS = ("layer", "teacher_layer", "patch_embeds", "token_moments", "mask_ratio")
DIMS_FIELDS = ("embed_dim", "token_dim", "has_text", "has_bias")


def members_of(teacher: Any) -> list[Any]:
    """Return the teachers of an ensemble, or the teacher itself in a list."""
    return list(getattr(teacher, "members", [teacher]))


def describe(teacher: Any) -> dict[str, Any]:
    """Describe a teacher for the time when it is gone: its features, and values that tell it from another."""
    dims = {
        name: value for name, value in asdict(teacher.dims).items() if name not in ("weight", "members", "vocab_size")
    }
    grids = getattr(teacher, "grids", {})
    return {
        "weights": tower_checksum(teacher),
        "dtype": str(next((tensor.dtype for tensor in teacher.state_dict().values()), None)),
        "dims": said(dims, DIMS_FIELDS),
        "logit_scale": None if teacher.logit_scale is None else teacher.logit_scale.item(),
        "logit_bias": None if teacher.logit_bias is None else teacher.logit_bias.item(),
        "image_grid": getattr(teacher, "image_grid", None),
        **({"grids": [[layer, grid] for layer, grid in grids.items()]} if len(grids) > 1 else {}),
    }


def said(values: dict[str, Any], always: tuple[str, ...]) -> dict[str, Any]:
    """Leave out the values that are empty, except for the names in `always`."""
    return {name: value for name, value in values.items() if name in always or value}


def stored_request(request: FeatureRequest) -> dict[str, Any]:
    """Return the teacher's part of a request as a manifest has it; the student's changes nothing in the files."""
    kept = FeatureRequest.of_layers(
        (), request.teacher_reads, patch_embeds=request.patch_embeds, class_token=request.class_token
    )
    return said(asdict(kept) | {"teacher_layers": list(kept.teacher_layers)}, REQUEST_FIELDS)


def request_of(manifest: dict[str, Any]) -> FeatureRequest:
    """Return the request that a cache was written for."""
    values = manifest["request"]
    return FeatureRequest(**values | {"teacher_layers": tuple(values.get("teacher_layers", ()))})


def dims_of(teacher: dict[str, Any]) -> CLIPDims:
    """Return the widths of a teacher in a manifest."""
    return CLIPDims(**teacher["dims"] | {"token_dims": tuple(map(tuple, teacher["dims"].get("token_dims", ())))})


def grids_of(teacher: dict[str, Any], request: FeatureRequest) -> dict[int, tuple[int, int]]:
    """Return rows and columns of each layer of a teacher in a manifest that was written for `request`."""
    if request.teacher_layers:
        return {layer: tuple(grid) for layer, grid in teacher["grids"]}
    return {layer: tuple(teacher["image_grid"]) for layer in request.teacher_reads}


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
    record = sealed(manifest, "teacher cache")
    write_whole(path, json.dumps(record, indent=2, sort_keys=True, default=str) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """
    Read the manifest of a cache, without version and checksum. Caches of all versions compare alike.

    Raises:
        ValueError: The folder is no cache, its manifest is damaged, or a later version of the package wrote it.
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
    check_version(content, path, "teacher cache")
    check_seal(content, path, **words)
    kinds = {"teachers": list[dict], "settings": dict, "request": dict}
    teachers, settings, _ = fields(content, kinds, path, where="the file", **words)
    fields(settings, {"augmentations": int}, path, where="`settings`", **words)
    for number, teacher in enumerate(teachers):
        kinds = {"dims": dict, "logit_scale": float | None, "logit_bias": float | None}
        fields(teacher, kinds, path, where=f"teacher {number}", **words)
    try:
        request = request_of(content)
        for teacher in teachers:
            dims_of(teacher), grids_of(teacher, request)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        problem = f"its request or a teacher has other fields than those of a cache ({error})"
        raise ForeignFileError(path, problem, **words) from error
    return {name: value for name, value in content.items() if name not in (VERSION, CHECKSUM)}


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
    return there | {"teachers": [_narrowed(teacher, there, request) for teacher in there["teachers"]], "request": kept}


def _narrowed(teacher: dict[str, Any], there: dict[str, Any], request: FeatureRequest) -> dict[str, Any]:
    """Return one teacher's part of [`narrowed`]."""
    grids = grids_of(teacher, request_of(there))
    widths = {layer: dims_of(teacher).at(layer).token_dim for layer in request.teacher_reads}
    found = {name: value for name, value in teacher.items() if name != "grids"}
    found["dims"] = {name: value for name, value in teacher["dims"].items() if name != "token_dims"}
    found["dims"]["token_dim"] = next(iter(widths.values())) if len(widths) == 1 else None
    if len(widths) == 1:
        found["image_grid"] = list(grids[request.teacher_layer])
    elif not request.patch_embeds:
        found["image_grid"] = None
    if len(widths) > 1:
        found["dims"]["token_dims"] = [[layer, width] for layer, width in widths.items()]
        found["grids"] = [[layer, list(grids[layer])] for layer in widths]
    return found


def part(there: Any, here: Any) -> Any:
    """Keep the keys of `there` that `here` has as well."""
    if isinstance(there, dict) and isinstance(here, dict):
        return {key: part(value, here[key]) for key, value in there.items() if key in here}
    return there
