"""Features that carry all a loss may ask for, and losses built with the same heads every time."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from made_up_reader import answers_about, of_images
from torch import Tensor

from hf_clip_kd.losses import LOSSES, DistillationLoss
from hf_clip_kd.losses.answers import Captions
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures

BATCH, NARROW, WIDE = 6, 16, 24
SMALL = {"caption": {"hidden_size": 8, "num_layers": 1, "num_heads": 2}}
WORDS = 9  # ids of the student's tokenizer
STUDENT = CLIPDims(NARROW, token_dim=10, vocab_size=WORDS)
TEACHER = CLIPDims(WIDE, token_dim=14)
# Equal widths need no head, a wider teacher does, and SigLIP-like students bring their own bias.
PAIRS = {
    "same width": (STUDENT, STUDENT),
    "wider teacher": (STUDENT, TEACHER),
    "biased": (replace(STUDENT, has_bias=True), replace(TEACHER, has_bias=True)),
    "ensemble": (STUDENT, replace(TEACHER, members=(TEACHER, STUDENT))),
}
# Rows and columns of the tokens; a teacher with wider ones has a finer map too.
GRIDS = {STUDENT.token_dim: (2, 3), TEACHER.token_dim: (3, 4)}
EMBEDS = ("image_embeds", "text_embeds", "masked_image_embeds", "synthetic_text_embeds", "patch_embeds")


def features(dims: CLIPDims, seed: int, dtype=torch.float32, scale=14.0) -> CLIPFeatures:
    """Random features of `BATCH` pairs, tokens and generated captions included; of an ensemble only its members'."""
    if dims.members:
        return CLIPFeatures(members=tuple(features(m, seed + i, dtype, scale) for i, m in enumerate(dims.members)))
    generator = torch.Generator().manual_seed(seed)
    rows, columns = GRIDS[dims.token_dim]
    image, text, masked, synthetic = 3 * torch.randn(4, BATCH, dims.embed_dim, generator=generator)
    # Channels of unlike means and spreads, as in real towers.
    mean, spread = torch.rand(2, dims.token_dim, generator=generator) + 0.5
    values = CLIPFeatures(
        image_embeds=image,
        text_embeds=text,
        logit_scale=torch.tensor(scale),
        logit_bias=torch.tensor(-10.0) if dims.has_bias else None,
        masked_image_embeds=masked,
        synthetic_text_embeds=synthetic,
        image_tokens=mean + spread * torch.randn(BATCH, rows * columns, dims.token_dim, generator=generator),
        image_grid=(rows, columns),
        patch_embeds=torch.randn(BATCH, rows * columns, dims.embed_dim, generator=generator),
        class_token=1 + 2 * torch.randn(BATCH, dims.token_dim, generator=generator),
    )
    values = with_moments(values.map(lambda x: x.to(dtype)))
    return replace(values, captions=captions(BATCH), answers=(answers_about(values.image_tokens),))


def captions(images: int) -> Captions:
    """Captions of 2 to 4 words, with a begin and an end."""
    ids = torch.arange(images * 6).reshape(images, 6) % WORDS
    return Captions(ids, torch.arange(6)[None] < 4 + torch.arange(images)[:, None] % 3)


def rows_of(values: CLIPFeatures, rows: Tensor) -> CLIPFeatures:
    """Return the features of some of the images, by their numbers."""
    return replace(
        values.map(lambda x: x[rows] if x.ndim else x),
        captions=values.captions and Captions(values.captions.ids[rows], values.captions.mask[rows]),
        answers=tuple(of_images(answers, rows) for answers in values.answers),
        members=tuple(rows_of(member, rows) for member in values.members),
    )


def layered(layers: dict[int, CLIPFeatures]) -> CLIPFeatures:
    """Features of the first entry, with tokens at several layers: those of each entry."""
    first = next(iter(layers.values()))
    kept = ("image_tokens", "image_grid", "token_moments", "class_token")
    bare = replace(first, **dict.fromkeys(kept))
    return replace(bare, layers={at: CLIPFeatures(**{n: getattr(x, n) for n in kept}) for at, x in layers.items()})


def with_moments(values: CLIPFeatures) -> CLIPFeatures:
    """Add the moments of the tokens, which teachers give in fp32 or better."""
    if values.members:
        return replace(values, members=tuple(map(with_moments, values.members)))
    tokens = values.image_tokens.to(torch.promote_types(values.image_tokens.dtype, torch.float32))
    return replace(values, token_moments=torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1))


def with_new(values: CLIPFeatures, names: tuple[str, ...], function: Callable[[Tensor], Tensor]) -> CLIPFeatures:
    """Apply `function` to the features of these names, also of the members."""
    new = {name: function(getattr(values, name)) for name in names if getattr(values, name) is not None}
    return replace(values, **new, members=tuple(with_new(member, names, function) for member in values.members))


def scaled(values: CLIPFeatures, magnitude: float) -> CLIPFeatures:
    """Make all embeddings and tokens `magnitude` times as long."""
    return with_moments(with_new(values, (*EMBEDS, "image_tokens"), lambda x: magnitude * x))


def padded(values: CLIPFeatures, zeros: int) -> CLIPFeatures:
    """Append `zeros` zeros to each embedding."""
    return with_new(values, EMBEDS, lambda x: F.pad(x, (0, zeros)))


def leaves(values: CLIPFeatures) -> CLIPFeatures:
    """Copy all tensors to leaves that collect gradients."""
    return values.map(lambda x: x.detach().clone().requires_grad_())


def build(name: str, dims: tuple[CLIPDims, CLIPDims | None], **options) -> DistillationLoss:
    """The loss of this name, its heads small, and the same at every call."""
    torch.manual_seed(0)
    return LOSSES[name](*dims, **SMALL.get(name, {}) | options)
