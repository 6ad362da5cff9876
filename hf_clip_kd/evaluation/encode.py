"""Features of a whole dataset: images and texts through a model and its own preprocessing, batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..models.towers.tokens import pooled

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.05
_DECODER = datasets.Image()


def to_rgb(image: PIL.Image.Image | dict | np.ndarray) -> PIL.Image.Image:
    """
    One picture as 8-bit RGB.

    Args:
        image (`PIL.Image.Image`, `dict` or `np.ndarray`):
            A decoded picture, the stored file of an undecoded [`~datasets.Image`] (`{"bytes": ..., "path": ...}`), or
            uint8 pixels of shape `(height, width)` or `(height, width, 3)`. Transparency is laid on white, 16-bit greys
            are scaled, and the first frame of an animation counts.

    Raises:
        OSError or its like from Pillow: if the file is broken.
    """
    if isinstance(image, dict):
        image = _DECODER.decode_example(image)
    elif isinstance(image, np.ndarray):
        image = PIL.Image.fromarray(image)
    if image.mode.startswith("I"):
        # 16-bit greys: Pillow's own conversion clips everything above 255 to white.
        grey = np.asarray(image).astype(np.float32)
        image = PIL.Image.fromarray(np.rint(grey / 257 if grey.max() > 255 else grey).clip(0, 255).astype(np.uint8))
    elif "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def encode_images(
    model: nn.Module, processor, images: Sequence, *, batch_size: int, description: str = "images"
) -> tuple[Tensor, Tensor]:
    """
    Unit-norm image features.

    A picture that cannot be decoded is left out and named in the log.

    Args:
        model (`nn.Module`): Has `get_image_features(pixel_values=)`.
        processor: Has the `image_processor` of the model.
        images (sequence): Pictures as [`to_rgb`] takes them; a column of a dataset will do.
        batch_size (`int`): Pictures per forward pass.
        description (`str`): Label of the progress bar.

    Returns:
        `tuple` of `Tensor` of shape `(kept, dim)` in float32 on the CPU, and `Tensor` of shape `(kept,)` with the
        positions in `images` of those that were encoded, ascending.

    Raises:
        ValueError: if more than 5 % of the pictures are broken, or if features are not finite.
    """
    device = next(model.parameters()).device
    features, kept = [], []
    for positions, pictures in readable(images, batch_size=batch_size, description=description):
        pixel_values = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        output = model.get_image_features(pixel_values=pixel_values.to(device))
        features.append(_unit_norm(pooled(output), "image", positions[0]))
        kept += positions
    return torch.cat(features), torch.tensor(kept)


def readable(
    images: Sequence, *, batch_size: int, description: str = "images"
) -> Iterator[tuple[list[int], list[PIL.Image.Image]]]:
    """
    Batches of pictures, without those that cannot be decoded, which are named in the log.

    Args:
        images (sequence), batch_size (`int`), description (`str`): As in [`encode_images`].

    Yields:
        `tuple`: positions in `images`, ascending, and the pictures there in RGB; at least one.

    Raises:
        ValueError: at the end, if more than 5 % of the pictures are broken.
    """
    broken = []
    for start in tqdm(range(0, len(images), batch_size), desc=description, leave=False):
        positions, pictures = [], []
        for position, image in enumerate(images[start : start + batch_size], start):
            try:
                pictures.append(to_rgb(image))
                positions.append(position)
            # Decoders raise anything on broken files: OSError, SyntaxError, struct.error, DecompressionBombError ...
            except Exception as error:
                where = (image.get("path") if isinstance(image, dict) else None) or "no file name"
                broken.append(f"row {position} ({where}): {error}")
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
    Unit-norm text features.

    Args:
        model (`nn.Module`): Has `get_text_features(input_ids=, attention_mask=)`.
        processor: Has the `tokenizer` of the model.
        texts (sequence of `str`): Longer ones are truncated to the context of the model.
        batch_size (`int`): Texts per forward pass.
        description (`str`): Label of the progress bar.

    Returns:
        `Tensor` of shape `(len(texts), dim)` in float32 on the CPU.

    Raises:
        ValueError: if features are not finite.
    """
    device = next(model.parameters()).device
    options = _padding(model, processor)
    features = []
    for start in tqdm(range(0, len(texts), batch_size), desc=description, leave=False):
        batch = list(texts[start : start + batch_size])
        tokens = processor.tokenizer(batch, truncation=True, return_tensors="pt", **options)
        inputs = {key: tokens[key].to(device) for key in ("input_ids", "attention_mask") if key in tokens}
        features.append(_unit_norm(pooled(model.get_text_features(**inputs)), "text", start))
    return torch.cat(features)


def _padding(model: nn.Module, processor) -> dict:
    """How the model wants its texts padded, as arguments of the tokenizer: the rule of the training's collator."""
    context_length = getattr(processor, "context_length", None) or model.config.text_config.max_position_embeddings
    # CLIP's text tower is causal and pools at the end of the text, so padding behind it changes nothing; others
    # (SigLIP pools its last position) see what they were trained on only at full length.
    causal = type(processor.tokenizer).__name__ in ("CLIPTokenizer", "CLIPTokenizerFast")
    return {"padding": "longest" if causal else "max_length", "max_length": context_length}


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
