"""Presets as JSON files."""

import json

from tiny_text import TINY_TEXT


def write_json(path, architecture="test_resnet", image_size=64, model_args=None, **others):
    vision = {"architecture": architecture, "image_size": image_size, "model_args": model_args}
    values = {"model_type": "timm_clip", "projection_dim": 32, "vision_config": vision, "text_config": TINY_TEXT}
    path.write_text(json.dumps(values | others))
    return str(path)
