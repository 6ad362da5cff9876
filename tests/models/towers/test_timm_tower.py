"""Preprocessing of timm's models: the pixels are those of timm's own evaluation transform."""

import pytest
import timm
import torch
from teacher_models import images

from hf_clip_kd.models.towers.timm_tower import timm_image_processor

# Margins are even: of an odd one, timm may cut the larger half on the other side.
EVALUATIONS = {
    "center": {"crop_mode": "center", "crop_pct": 0.9, "size": 36},
    "squash, whole": {"crop_mode": "squash", "crop_pct": 1.0, "size": 32},
    "squash, cropped": {"crop_mode": "squash", "crop_pct": 0.9, "size": 36},
    "border, whole": {"crop_mode": "border", "crop_pct": 1.0, "size": 32},
    "border, cropped": {"crop_mode": "border", "crop_pct": 0.9, "size": 36},
}


@pytest.mark.parametrize("evaluation", EVALUATIONS.values(), ids=EVALUATIONS)
def test_pixels_are_those_of_timms_own_transform(evaluation):
    config = {
        "input_size": (3, evaluation["size"], evaluation["size"]),
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.3, 0.4),
        "crop_mode": evaluation["crop_mode"],
        "crop_pct": evaluation["crop_pct"],
    }
    image_processor, transform = timm_image_processor(config), timm.data.create_transform(**config)
    for size in [(40, 40), (60, 90), (90, 60), (24, 16), (13, 80)]:
        (image,) = images(1, size)
        pixels = image_processor(image, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(pixels, transform(image), rtol=0, atol=1e-5, msg=str(size))


def test_every_border_of_timm_has_one_value_for_all_colours():
    configs = [timm.get_pretrained_cfg(name) for name in timm.list_pretrained()]
    assert {len(set(config.mean)) for config in configs if config.crop_mode == "border"} == {1}
