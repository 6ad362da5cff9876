"""Losses: one row for each, from the facts of its class."""

import inspect

import hf_clip_kd as kd
from hf_clip_kd.losses import DistillationLoss
from hf_clip_kd.losses.base import NOTATION

from .markdown import paper, render

HEADER = (
    "you have",
    "loss, with its paper",
    "the student learns",
    "formula",
    "weight",
    "options",
    "learned besides",
    "reported",
)
# Widths of a made-up student and teacher: they show the heads that a loss builds.
SMALL, LARGE = 2, 3


def needs(cls: type[DistillationLoss]) -> str:
    """Return the data and models that a loss needs."""
    request = cls.request()
    tokens = request.layer is not None
    return ", ".join(
        [
            "images and texts" if cls.needs_text else "images (texts are not read)",
            *(["a teacher"] if cls.needs_teacher else []),
            *(["a ViT student"] if request.mask_ratio is not None else []),
            *(["patch tokens"] if tokens else []),
            *(["a teacher whose patches have embeddings"] if request.patch_embeds else []),
        ]
    )


def learns(cls: type[DistillationLoss]) -> str:
    """Return the parameters of a loss: a head (always, or for unequal widths), a scale, a bias."""
    equal, wider = (heads(cls, teacher) for teacher in (SMALL, LARGE))
    if "head" in equal:
        found = ["projections"]
    elif "head" in wider:
        found = ["projections between unequal widths"]
    else:
        found = []
    return ", ".join([*found, *sorted(equal - {"head"})]) or "–"


def heads(cls: type[DistillationLoss], width: int) -> set[str]:
    """Return the kinds of parameters that a loss has for a teacher of this width."""
    # A student with a bias of its own does not need the loss's.
    student = kd.CLIPDims(SMALL, token_dim=SMALL, has_bias=True, vocab_size=SMALL)
    loss = cls(student, kd.CLIPDims(width, token_dim=width, has_bias=True))
    kinds = {"logit_scale": "a scale", "logit_bias": "a bias", "decoder": "a caption decoder"}
    names = [name.split(".") for name, _ in loss.named_parameters()]
    return {kinds.get(name[0], kinds.get(name[-1], "head")) for name in names}


def options(cls: type[DistillationLoss]) -> str:
    """Return the options of a loss, the keyword-only arguments of its class."""
    names = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return ", ".join(f"`{name}`" for name in names) or "–"


def row(name: str, cls: type[DistillationLoss]) -> tuple[str, ...]:
    """Return a loss's cells under `HEADER`."""
    return (
        needs(cls),
        paper(cls.paper["id"], f"`{name}`"),
        cls.teaches.removesuffix("."),
        f"`{cls.formula}`",
        f"{cls.default_weight:g}",
        options(cls),
        learns(cls),
        "–" if cls.reported is None else f"{cls.reported:.2f}",
    )


def table() -> str:
    """Return the table, losses with equal needs together, and the symbols of its formulas."""
    rows = [row(name, cls) for name, cls in kd.LOSSES.items()]
    order = list(dict.fromkeys(cells[0] for cells in rows))
    rows.sort(key=lambda cells: order.index(cells[0]))
    return f"{render(HEADER, rows, right=('weight', 'reported'))}\n\nSymbols: {NOTATION}"
