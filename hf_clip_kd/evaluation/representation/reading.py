"""One pass over the images through a model and its teacher, for all diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...teachers.clip import CLIPTeacher
from ..encode import readable
from .a_score import AScore, comparable
from .cka import MinibatchCKA
from .layers import TowerOutput, read_patches, read_tower
from .patch_text import align_patches
from .tokens import TokenStatistics


@dataclass
class Reading:
    """
    Results of [`read_images`] for the `n` images that could be decoded.

    Args:
        kept (`list[int]`): Positions of those images, ascending.
        embeds (`Tensor` of shape `(n, dim)`): The model's embeddings, unit norm. All but `tokens` are on the CPU.
        token_means (`Tensor` of shape `(n, channels)`): Mean of each image's tokens.
        teacher_embeds (`Tensor` of shape `(n, teacher's dim)`, *optional*): The teacher's embeddings, unit norm.
        tokens (`Tensor` of shape `(n, tokens, channels)`, *optional*): The tokens, on the model's device.
        near_texts, near_patches (`Tensor`s of shape `(n,)`, *optional*): See [`align_patches`].
        grid (`int`): Number of patches compared with texts.
        statistics ([`TokenStatistics`]): Statistics of all tokens.
        cka ([`MinibatchCKA`]): Alignment of the teacher's layers with the model's.
        a_score ([`AScore`], *optional*): Likeness of the tokens to the teacher's; `None` without square grids.
    """

    kept: list[int]
    embeds: Tensor
    token_means: Tensor
    teacher_embeds: Tensor | None
    tokens: Tensor | None
    near_texts: Tensor | None
    near_patches: Tensor | None
    grid: int = 0
    statistics: TokenStatistics = field(default_factory=TokenStatistics)
    cka: MinibatchCKA = field(default_factory=MinibatchCKA)
    a_score: AScore | None = None


def read_images(
    model: nn.Module,
    processor,
    images: Sequence,
    *,
    layer: int,
    batch_size: int,
    teacher: CLIPTeacher | None = None,
    texts: tuple[Tensor, Tensor] | None = None,
    keep_tokens: bool = False,
    description: str = "images",
) -> Reading:
    """
    Run images through a model and its teacher, each with its own preprocessing, batch by batch.

    Args:
        model (`nn.Module`), processor: See [`Evaluator`].
        images (sequence): Pictures in random order, as [`~hf_clip_kd.decode_image`] takes them.
        layer (`int`): Layer of the tokens, counted from the end, -1 for the last.
        batch_size (`int`): Pictures per forward pass.
        teacher ([`CLIPTeacher`], *optional*): Teacher to compare with.
        texts (`tuple` of `Tensor`s, *optional*):
            Texts `(texts, dim)` of unit norm to compare patches with, and the position of each picture's own,
            `(pictures,)`.
        keep_tokens (`bool`, *optional*, defaults to `False`): Keep the tokens of all images.
        description (`str`, *optional*, defaults to `"images"`): Label of the progress bar.

    Raises:
        ValueError: More than 5 % of the pictures are broken, the tower has no such layer, or features are not finite.
    """
    statistics, cka = TokenStatistics(), MinibatchCKA()
    columns: dict[str, list[Tensor]] = {}
    kept: list[int] = []
    grid = 0
    a_score = None if teacher is None else AScore(len(images))

    def add(**values: Tensor) -> None:
        for name, value in values.items():
            columns.setdefault(name, []).append(value)

    for positions, pictures in readable(images, batch_size=batch_size, description=description):
        kept += positions
        pixel_values = pixels_of(processor, pictures)
        output = read_tower(model, pixel_values)
        tokens = tokens_at(output, layer)
        statistics.update(tokens)
        add(embeds=unit_norm(output.embeds), token_means=tokens.float().mean(dim=1).cpu())
        if keep_tokens:
            add(tokens=tokens)
        if texts is not None:
            patches = read_patches(model, pixel_values)
            near_texts, near_patches = align_patches(patches, texts[0], texts[1][positions])
            add(near_texts=near_texts.cpu(), near_patches=near_patches.cpu())
            grid = patches.shape[1]
        if teacher is not None:
            theirs = read_tower(teacher, pixels_of(teacher.processor, pictures))
            reference = tokens_at(theirs, layer)
            if a_score is not None and comparable(tokens, reference):
                a_score.update(tokens, reference)
            else:
                a_score = None
            add(teacher_embeds=unit_norm(theirs.embeds))
            cka.update(theirs.layers, output.layers)
    found = {name: torch.cat(columns[name]) if name in columns else None for name in _COLUMNS}
    return Reading(kept, **found, grid=grid, statistics=statistics, cka=cka, a_score=a_score)


_COLUMNS = ("embeds", "token_means", "teacher_embeds", "tokens", "near_texts", "near_patches")


def pixels_of(processor, pictures: Sequence) -> Tensor:
    return processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]


def unit_norm(embeds: Tensor) -> Tensor:
    return F.normalize(embeds.float(), dim=-1).cpu()


def tokens_at(output: TowerOutput, layer: int) -> Tensor:
    """Return the tokens `(batch, tokens, channels)` of a layer counted from the end."""
    depth = len(output.layers)
    if not -depth <= layer <= -1:
        raise ValueError(
            f"layer={layer} does not exist in an image tower of {depth} layers. Layers are counted from the end, -1 "
            f"to {-depth}, and a LLaVA reads -2. Pass `layer=-1`."
        )
    tokens = output.layers[layer]
    if not tokens.isfinite().all():
        raise ValueError(
            f"The image tokens at layer={layer} are not finite, so there is nothing to measure. They must be finite "
            "numbers. Load a checkpoint from before the training diverged, or evaluate in float32 if the model runs "
            "in float16."
        )
    return tokens
