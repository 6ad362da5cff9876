"""Checks of the user's `losses`: names, shorthands, weights and options."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Any

from .base import DistillationLoss
from .features import FeatureRequest
from .objectives import OBJECTIVES
from .parts.process_heads import HEADS, check_heads, without_heads
from .schedule import Schedule, read_weight
from .table import LOSSES

Terms = dict[str, tuple[type[DistillationLoss], Schedule, dict[str, Any]]]
# Fields of a FeatureRequest that losses may fill differently: a run computes all of them.
LAYERS = ("layer", "teacher_layer", "layers", "teacher_layers")


def specification(losses: str | Mapping[str, float | Mapping[str, Any]]) -> Terms:
    """
    Return the class, weight and options of each loss by its name, without losses that are never on.

    Args:
        losses (`str` or `dict`): Losses in the form of [`LossSum`].

    Raises:
        ValueError: if a loss or option is unknown, or no loss is left.
        ValueError: if a weight is not allowed, see [`read_weight`].
    """
    terms: Terms = {}
    for name, spec in expanded(losses).items():
        cls = resolve(name)
        weight, options = parse(name, spec, cls.default_weight)
        check_options(name, cls, options)
        check_heads(name, options)
        terms[name] = cls, weight, options
    terms = {name: term for name, term in terms.items() if term[1].peak > 0}
    if not terms:
        raise ValueError(
            f"losses={losses!r} leaves nothing to train on. At least one of {sorted(LOSSES)} needs a weight above 0. "
            "Write for example `losses={'clip': 1.0}`."
        )
    return terms


def requested(
    losses: str | Mapping[str, float | Mapping[str, Any]], among: Collection[str] | None = None
) -> FeatureRequest:
    """
    Return the features that the losses read beyond embeddings of images and texts, all layers of tokens among them.

    Args:
        losses (`str` or `dict`): Losses in the form of [`LossSum`].
        among (`Collection[str]`, *optional*): Names of the losses that count; by default all.

    Raises:
        ValueError: if two losses ask for different mask ratios, and as for [`LossSum`].
    """
    requests = {
        name: cls.request(**without_heads(options))
        for name, (cls, _, options) in specification(losses).items()
        if among is None or name in among
    }
    wanted: dict[str, tuple[Any, str]] = {}
    for name, request in requests.items():
        for field, value in vars(request).items():
            if value is None or value is False or field in LAYERS:
                continue
            other, owner = wanted.setdefault(field, (value, name))
            if other != value:
                raise ValueError(
                    f"The losses {owner!r} and {name!r} ask for different values of `{field}`: {other} and {value}. A "
                    f"run computes only one of them. Give both the same, for example "
                    f"`losses={{'{owner}': {{'{field}': {other}}}, '{name}': {{'{field}': {other}}}}}`."
                )
    return FeatureRequest.of_layers(
        chain.from_iterable(request.student_reads for request in requests.values()),
        chain.from_iterable(request.teacher_reads for request in requests.values()),
        **{field: value for field, (value, _) in wanted.items()},
    )


def requested_by_all(runs: Iterable[str | Mapping[str, float | Mapping[str, Any]]]) -> FeatureRequest:
    """
    Return all features that several runs read from their common teacher: tokens of all layers, and patch embeddings.

    Args:
        runs (`Iterable[str | dict]`): Losses of each run, in the form of [`LossSum`].

    Raises:
        ValueError: as for [`requested`].
    """
    requests = [requested(losses) for losses in runs]
    return FeatureRequest.of_layers(
        (),
        chain.from_iterable(request.teacher_reads for request in requests),
        patch_embeds=any(request.patch_embeds for request in requests),
        class_token=any(request.class_token for request in requests),
    )


def defects(losses: str | Mapping[str, float | Mapping[str, Any]]) -> list[str]:
    """Return the switches of published defects in `losses`, `frozen_heads: 8 of fd`, which nobody must mistake."""
    found = [(name, parse(name, spec, 1.0)[1]) for name, spec in expanded(losses).items()]
    return [
        f"{option}: {options[option]} of {name}" for name, options in found for option in HEADS if option in options
    ]


def expanded(losses: str | Mapping[str, float | Mapping[str, Any]]) -> dict[str, float | Mapping[str, Any]]:
    """Replace the shorthands in `losses` by their losses. A loss that is also named itself keeps its own value."""
    if isinstance(losses, str):
        losses = {losses: 1.0}
    if not isinstance(losses, Mapping):
        raise ValueError(
            f"losses={losses!r} is no mapping of losses to weights. The losses are {sorted(LOSSES)}, and "
            f"{sorted(OBJECTIVES)} stand for several. Write for example `losses={{'clip': 1.0, 'crd': 1.0}}`."
        )
    parts: dict[str, float | Mapping[str, Any]] = {}
    for name, spec in losses.items():
        if name in OBJECTIVES:
            weight, options = parse(name, spec, 1.0)
            check_options(name, OBJECTIVES[name], options)
            heads = {option: value for option, value in options.items() if option in HEADS}
            for part, values in OBJECTIVES[name](**without_heads(options)).items():
                parts.setdefault(part, {**values, **heads, "weight": weight.scaled(values["weight"]).plain})
        else:
            parts[name] = spec
    return parts


def resolve(name: str) -> type[DistillationLoss]:
    """Return the class of a loss by its name in `LOSSES` or its dotted path.

    A second entry of the same loss has a word of its own behind a slash, `patch/late`.

    Raises:
        ValueError: if there is no such loss.
    """
    name = loss_of(name)
    if name in LOSSES:
        return LOSSES[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        close = difflib.get_close_matches(str(name), [*LOSSES, *OBJECTIVES], n=1, cutoff=0.5)
        hint = f"Did you mean `losses={{'{close[0]}': 1.0}}`?" if close else "For example `losses={'clip': 1.0}`."
        raise ValueError(
            f"{name!r} in `losses` is no loss. Allowed are {sorted(LOSSES)}, the shorthands {sorted(OBJECTIVES)}, or "
            f"the dotted path of your own class, `package.module.Class`. {hint}"
        )
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name!r} in `losses` cannot be imported: {error}. A dotted path must be `package.module.Class`. Make it "
            f"importable from the run's folder (`PYTHONPATH`), or take a built-in loss of {sorted(LOSSES)}."
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, DistillationLoss)):
        raise ValueError(
            f"{name!r} in `losses` is {cls!r}, not a loss. A dotted path must name a subclass of "
            "`hf_clip_kd.losses.DistillationLoss`. Derive yours from it."
        )
    return cls


def loss_of(name: str) -> str:
    """Return the name of the loss in a name of `losses`: `patch` in `patch/late`."""
    return str(name).partition("/")[0]


def parse(name: str, spec: float | Mapping[str, Any], default: float) -> tuple[Schedule, dict[str, Any]]:
    """Return the weight and options in one value of `losses`."""
    options = dict(spec) if isinstance(spec, Mapping) else {"weight": spec}
    weight = options.pop("weight", default)
    fix = f"Write for example `losses={{'{name}': 1.0}}`."
    return read_weight(weight, f"the loss {name!r} in `losses`", fix), options


def check_options(name: str, cls: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that a loss class or a shorthand has all the options.

    Raises:
        ValueError: if an option is unknown.
    """
    own = _options(cls)
    if own is None:
        return
    allowed = [*own, *HEADS]
    for option in options:
        if option not in allowed:
            close = difflib.get_close_matches(str(option), [*allowed, "weight"], n=1)
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else f"Write for example `losses={{'{name}': {{'weight': 1.0}}}}`."
            )
            raise ValueError(
                f"The loss {name!r} in `losses` has no option {option!r}. Allowed are {['weight', *allowed]}. {hint}"
            )


@functools.cache
def _options(cls: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the options of a loss class or a shorthand, or `None` if it takes any."""
    parameters = inspect.signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
