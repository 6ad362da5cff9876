"""Students on timm's vision transformers, for exports."""

import json

import torch
from tiny_text import TINY_TEXT

from hf_clip_kd.models import load_clip

SIDE = 32


VIT = {"img_size": SIDE, "depth": 2, "embed_dim": 32, "num_heads": 2, "patch_size": 8}


def student(folder, architecture="vit_tiny_patch16_224", **model_args):
    """A student on this trunk, with weights none of which is zero or one, and its processor."""
    vision = {"architecture": architecture, "image_size": SIDE, "model_args": model_args}
    path = folder / "student.json"
    path.write_text(
        json.dumps(
            {"model_type": "timm_clip", "projection_dim": 24, "vision_config": vision, "text_config": TINY_TEXT}
        )
    )
    torch.manual_seed(0)
    model, processor = load_clip(path)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval(), processor
