"""Tokens of one or several layers in a cache: their names in files and batches, and features made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...losses.features import CLIPFeatures, FeatureRequest
from .manifest import grids_of


def lacking(request: FeatureRequest, stored: FeatureRequest) -> list[str]:
    """Say in words what a cache that was written for `stored` lacks of `request`."""
    lacks = []
    if missing := [layer for layer in request.teacher_reads if layer not in stored.teacher_reads]:
        told, there = (", ".join(map(str, layers)) or None for layers in (missing, stored.teacher_reads))
        lacks.append(f"tokens of teacher_layer={told} (stored: {there})")
    if request.class_token and not stored.class_token:
        lacks.append("class tokens")
    if request.patch_embeds and not stored.patch_embeds:
        lacks.append("patch embeddings")
    return lacks


def names_of_images(request: FeatureRequest, stored: FeatureRequest) -> dict[str, str]:
    """
    Name the features of images that a run reads, in a batch and in the files, without the teacher's number.

    Args:
        request ([`FeatureRequest`]): Request of the run.
        stored ([`FeatureRequest`]): Request that the cache was written for.
    """
    plain = ["image_embeds"] + ["patch_embeds"] * request.patch_embeds
    names = dict(zip(plain, plain, strict=True))
    for kind in ["image_tokens"] + ["class_token"] * request.class_token:
        for layer in request.teacher_reads:
            names[name_of(kind, layer, request.teacher_reads)] = name_of(kind, layer, stored.teacher_reads)
    return names


def name_of(kind: str, layer: int, layers: Sequence[int]) -> str:
    """Name a feature of a layer among `layers` as [`CLIPFeatures.tensors`] does. A single layer has the plain name."""
    return kind if len(layers) == 1 else f"layers.{layer}.{kind}"


@cache
def scalar(value: float | None, device: torch.device) -> Tensor | None:
    """Return a number as a 0-dim tensor. It stays on its device, because the host waits for each copy to a GPU."""
    return None if value is None else torch.tensor(value, device=device)


def stored_features(
    teacher: Mapping[str, Any], tensors: Mapping[str, Tensor], request: FeatureRequest, stored: FeatureRequest
) -> CLIPFeatures:
    """
    Make features of what a batch holds of a teacher.

    Args:
        teacher (`dict`): Its entry in the manifest.
        tensors (`dict[str, Tensor]`): Its features by the names of [`names_of_images`], with those of texts.
        request, stored: Arguments of [`names_of_images`].
    """
    grids, tensors, tokens = grids_of(teacher, stored), dict(tensors), {}
    for layer in request.teacher_reads:
        kinds = ("image_tokens", "class_token")
        tokens[layer] = tuple(tensors.pop(name_of(kind, layer, request.teacher_reads), None) for kind in kinds)
    grid = teacher["image_grid"] if request.patch_embeds else None
    features = CLIPFeatures(**tensors, image_grid=None if grid is None else tuple(grid))
    return features.with_tokens(tokens, grids, request)
