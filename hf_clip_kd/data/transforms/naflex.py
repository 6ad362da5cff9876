"""Images of any shape for a SigLIP 2 (NaFlex): its processor's three outputs travel as one."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BatchFeature, Siglip2ImageProcessor
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil


class NaflexImageProcessor:
    """
    Image processor of a native-aspect-ratio SigLIP 2 whose three outputs travel as one `pixel_values`.

    The shape is `(batch, max_num_patches, channels * patch_size**2 + 2)`. The last two channels are rows and columns
    of the image's own grid, and zero on padding patches. A model of [`~hf_clip_kd.models.naflex.read_packed`] takes
    them apart again.

    Args:
        image_processor ([`~transformers.Siglip2ImageProcessor`]): The processor of the checkpoint.
    """

    model_input_names = ("pixel_values",)

    def __init__(self, image_processor: Any):
        self.image_processor = image_processor

    def __call__(self, images, return_tensors="pt", **kwargs) -> BatchFeature:
        batch = self.image_processor(images, return_tensors="pt", **kwargs)
        grid = batch["spatial_shapes"][:, None] * batch["pixel_attention_mask"][..., None]
        return BatchFeature({"pixel_values": torch.cat([batch["pixel_values"], grid], dim=-1)})

    def __eq__(self, other: object) -> bool:
        """Tell if both treat every picture alike."""
        return isinstance(other, NaflexImageProcessor) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(type(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings of the processor, as in transformers."""
        return {**self.image_processor.to_dict(), "image_processor_type": type(self).__name__}


def packed(image_processor: Any) -> Any:
    """Return a processor whose only output is `pixel_values`: that of a NaFlex tower packed, any other itself."""
    stock = isinstance(image_processor, Siglip2ImageProcessor | Siglip2ImageProcessorPil)
    return NaflexImageProcessor(image_processor) if stock else image_processor


__all__ = ["NaflexImageProcessor", "packed"]
