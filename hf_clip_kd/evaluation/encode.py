"""Features of a whole dataset: images and texts pass through a model and its own preprocessing, batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data.reading.images import BrokenImageError, decode_image, image_path
from ..data.texts import MAX_CAPTION, text_fault
from ..data.transforms.naflex import packed
from ..data.transforms.view import TextView
from ..models.processing import fit_processor
from ..models.towers.tokens import pooled

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.05


def encode_images(
    model: nn.Module, processor, images: Sequence, *, batch_size: int, description: str = "images"
) -> tuple[Tensor, Tensor]:
    """
    Embed images, at unit norm.

    A picture that cannot be decoded is left out and named in the log.

    Args:
        model (`nn.Module`): Has `get_image_features(pixel_values=)`.
        processor: Has the `image_processor` of the model.
        images (sequence): Pictures as [`decode_image`] takes them, such as a column of a dataset.
        batch_size (`int`): Pictures per forward pass.
        description (`str`, *optional*, defaults to `"images"`): Label of the progress bar.

    Returns:
        `tuple`: features, a `Tensor` of shape `(kept, dim)` in float32 on the CPU, and positions. The positions are
        those of the features in `images`, a `Tensor` of shape `(kept,)`, ascending.

    Raises:
        ValueError: More than 5 % of the pictures are broken, or features are not finite.
    """
    device = next(model.parameters()).device
    features, kept = [], []
    for positions, pictures in readable(images, batch_size=batch_size, description=description):
        pixel_values = packed(processor.image_processor)(images=pictures, return_tensors="pt")["pixel_values"]
        output = model.get_image_features(pixel_values=pixel_values.to(device))
        features.append(_unit_norm(pooled(output), "image", positions[0]))
        kept += positions
    return torch.cat(features), torch.tensor(kept)


def readable(
    images: Sequence, *, batch_size: int, description: str = "images"
) -> Iterator[tuple[list[int], list[PIL.Image.Image]]]:
    """
    Yield batches of pictures. Those that cannot be decoded are left out and named in the log.

    Args:
        images (sequence), batch_size (`int`), description (`str`): Arguments of [`encode_images`].

    Yields:
        `tuple`: positions in `images`, ascending, and the pictures there in RGB, never empty.

    Raises:
        ValueError: More than 5 % of the pictures are broken. It comes after the last batch.
    """
    broken = []
    for start in tqdm(range(0, len(images), batch_size), desc=description, leave=False):
        positions, pictures = [], []
        for position, image in enumerate(images[start : start + batch_size], start):
            try:
                pictures.append(decode_image(image))
                positions.append(position)
            except BrokenImageError as error:
                broken.append(f"row {position} ({image_path(image) or 'no file name'}): {error}")
                logger.warning("Left out of the evaluation, broken image in %s", broken[-1])
        if pictures:
            yield positions, pictures
    if len(broken) > MAX_BROKEN_SHARE * len(images):
        raise ValueError(
            f"{len(broken)} of {len(images)} images to evaluate on are broken, the first in {broken[0]}. At most "
            f"{MAX_BROKEN_SHARE:.0%} may be. Repair or remove them, or check that the image column holds images."
        )


def encode_texts(
    model: nn.Module, processor, texts: Sequence[str], *, batch_size: int, description: str = "texts"
) -> Tensor:
    """
    Embed texts, at unit norm.

    Args:
        model (`nn.Module`): Has `get_text_features(input_ids=, attention_mask=)`.
        processor: Has the `tokenizer` of the model.
        texts (sequence of `str`): Longer ones are truncated to the context of the model.
        batch_size (`int`): Texts per forward pass.
        description (`str`, *optional*, defaults to `"texts"`): Label of the progress bar.

    Returns:
        `Tensor` of shape `(len(texts), dim)` in float32 on the CPU.

    Raises:
        ValueError: A text cannot be read, see [`text_fault`], or features are not finite.
    """
    check_texts(texts, description)
    device = next(model.parameters()).device
    tokenize = TextView(fit_processor(processor, model))
    features = []
    for start in tqdm(range(0, len(texts), batch_size), desc=description, leave=False):
        tokens = tokenize(list(texts[start : start + batch_size]))
        inputs = {key: values.to(device) for key, values in tokens.items()}
        features.append(_unit_norm(pooled(model.get_text_features(**inputs)), "text", start))
    return torch.cat(features)


def check_texts(texts: Sequence[str], description: str) -> None:
    """Refuse texts that training leaves out. `description` names them in the message of the `ValueError`."""
    for position, text in enumerate(texts):
        if fault := text_fault(text):
            raise ValueError(
                f"Text {position} of {description!r} {fault}: {text[:40]!r}. A text must be written in whole "
                f"characters, 1 to {MAX_CAPTION:,} of them. Repair it, or leave its row out."
            )


def _unit_norm(features: Tensor, kind: str, start: int) -> Tensor:
    finite = features.isfinite().all(dim=-1)
    if not finite.all():
        row = start + int((~finite).nonzero()[0])
        raise ValueError(
            f"The model's {kind} features are not finite ({int((~finite).sum())} of {len(features)} in one batch, the "
            f"first at row {row}), so there is no score. Features must be finite numbers. Load a checkpoint from "
            "before the training diverged, or evaluate in float32 if the model runs in float16."
        )
    return F.normalize(features.float(), dim=-1).cpu()
