"""Vision models as teachers, and a crop for them."""

from teacher_models import TOWER
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    IJepaConfig,
    IJepaModel,
)

# Trained at 64 pixels, used at 32, as DINOv2 is with 518 and 224.
VIT = {**TOWER, "image_size": 64, "patch_size": 8}


MODELS = {
    "dinov2": (lambda: Dinov2Model(Dinov2Config(**VIT)), 1),
    "dinov3 with registers": (lambda: DINOv3ViTModel(DINOv3ViTConfig(**VIT, num_register_tokens=4)), 5),
    "i-jepa without class token": (lambda: IJepaModel(IJepaConfig(**TOWER, image_size=32, patch_size=8)), 0),
}


def crop():
    return BitImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
