"""The published defect of two crops: the teacher sees another part of the image than the student."""

import numpy as np
import pytest
import torch
from clip_processor import clip_images, processor
from PIL import Image

from hf_clip_kd.data import CLIPDataCollator, IndependentCropsCollator

CROP = {"crop_scale": (0.1, 0.5), "flip": 0.5}


def plain(size):
    return processor(clip_images(size, image_mean=[0, 0, 0], image_std=[1, 1, 1]))


def rows(count=16, **keys):
    """A picture whose pixels tell where they were: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).round().astype(np.uint8))
    return [{"image": image, "text": f"number {i}"} | {key: i for key in keys} for i in range(count)]


def centres(pixels):
    """Return the mean red and green of each crop: its place in the picture."""
    return pixels[:, :2].mean(dim=(2, 3))


@pytest.mark.parametrize("keys", [{}, {"__index__": 0}], ids=["drawn", "keyed"])
def test_teacher_and_student_see_different_places(keys):
    batch = rows(**keys)
    same = CLIPDataCollator(plain(32), plain(64), **CROP)(batch)
    apart = IndependentCropsCollator(plain(32), plain(64), **CROP)(batch)
    assert (centres(same["pixel_values"]) - centres(same["teacher_pixel_values"])).abs().max() < 0.02
    distances = (centres(apart["pixel_values"]) - centres(apart["teacher_pixel_values"])).norm(dim=1)
    assert (distances > 0.02).sum() >= 14
    assert apart.keys() == same.keys() and torch.equal(apart["input_ids"], same["input_ids"])
    # Across rows, the places of both have nothing to do with each other.
    student, teacher = (
        x[:, 0] - x[:, 0].mean() for x in map(centres, (apart["pixel_values"], apart["teacher_pixel_values"]))
    )
    assert abs(torch.nn.functional.cosine_similarity(student, teacher, dim=0)) < 0.6


def test_the_student_sees_what_it_would_see_anyway():
    batch = rows(__index__=0)
    same, apart = (cls(plain(32), plain(32), **CROP)(batch) for cls in (CLIPDataCollator, IndependentCropsCollator))
    assert torch.equal(same["pixel_values"], apart["pixel_values"]) and "teacher_pixel_values" not in same
    # A teacher with the student's own view has a crop of its own, too, and no other tokens.
    assert not torch.equal(apart["pixel_values"], apart["teacher_pixel_values"])
    assert not any(name.startswith("teacher_input") for name in apart)


def test_crops_are_keyed_by_seed_epoch_and_row():
    def teacher(seed=0, epoch=0):
        collator = IndependentCropsCollator(plain(32), plain(32), seed=seed, **CROP)
        return collator([row | {"__epoch__": epoch} for row in rows(__index__=0)])["teacher_pixel_values"]

    assert torch.equal(teacher(), teacher())
    assert not torch.equal(teacher(), teacher(epoch=1)) and not torch.equal(teacher(), teacher(seed=1))


def test_several_teachers_share_their_crop():
    teachers = {"teacher_0_": plain(32), "teacher_1_": plain(48)}
    batch = IndependentCropsCollator(plain(32), teachers, **CROP)(rows(__index__=0))
    first, second = centres(batch["teacher_0_pixel_values"]), centres(batch["teacher_1_pixel_values"])
    assert (first - second).abs().max() < 0.02 < (first - centres(batch["pixel_values"])).abs().max()
