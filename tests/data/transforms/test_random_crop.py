"""Crops against those of torchvision, colours against what they mean."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter, RandomResizedCrop

from hf_clip_kd.data.reading.images import decode_image
from hf_clip_kd.data.transforms.keyed_random import UNIFORMS_PER_CROP, UNIFORMS_PER_ROW
from hf_clip_kd.data.transforms.random_crop import UNCHANGED, RandomCrop, random_crop_box, recolored

JITTER = (0.32, 0.4, 0.5, 0.08)


@pytest.mark.parametrize("size", [(64, 48), (33, 200), (1, 1), (5, 400)])
def test_crops_are_distributed_as_torchvision_draws_them(size):
    scale, ratio = (0.3, 1.0), (3 / 4, 4 / 3)
    width, height = size
    uniforms = torch.rand(3000, UNIFORMS_PER_CROP).tolist()
    mine = torch.tensor([random_crop_box(width, height, scale, ratio, u) for u in uniforms]).float()
    image = torch.zeros(3, height, width)
    drawn = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(3000)]
    theirs = torch.tensor([(left, top, left + w, top + h) for top, left, h, w in drawn]).float()
    assert (mine[:, :2] >= 0).all() and (mine[:, 2] <= width).all() and (mine[:, 3] <= height).all()
    side = torch.tensor([width, height, width, height])
    assert ((mine.mean(0) - theirs.mean(0)).abs() < 0.02 * side).all()
    assert ((mine.std(0) - theirs.std(0)).abs() < 0.02 * side).all()


def draws(count=4000, **options):
    crop = RandomCrop(**options)
    uniforms = torch.rand(count, UNIFORMS_PER_ROW, generator=torch.Generator().manual_seed(0)).tolist()
    return torch.tensor([crop.draw((40, 30), numbers).colors for numbers in uniforms], dtype=torch.float64)


def test_colours_are_distributed_as_torchvision_draws_them():
    jitter = ColorJitter(*JITTER)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = torch.tensor([ColorJitter.get_params(*ranges)[1:] for _ in range(4000)], dtype=torch.float64)
    mine = draws(color_jitter=JITTER, color_jitter_prob=1.0)
    low, high = torch.tensor(ranges, dtype=torch.float64).T
    assert (mine[:, :4] >= low - 1e-6).all() and (mine[:, :4] <= high + 1e-6).all() and (mine[:, 4] == 0).all()
    assert ((mine[:, :4].mean(0) - theirs.mean(0)).abs() < 0.04 * (high - low)).all()
    assert ((mine[:, :4].std(0) - theirs.std(0)).abs() < 0.02 * (high - low)).all()


def test_each_change_has_its_probability():
    colors = draws(color_jitter=JITTER, color_jitter_prob=0.3, gray_scale_prob=0.2)
    jittered, gray = (colors[:, :4] != torch.tensor(UNCHANGED[:4])).any(dim=1), colors[:, 4] == 1
    for drawn, probability in ((jittered, 0.3), (gray, 0.2), (jittered & gray, 0.06)):
        assert abs(drawn.double().mean() - probability) < 4 * math.sqrt(probability / 4000)
    assert (draws() == torch.tensor(UNCHANGED)).all() and not RandomCrop().colors_change


def test_colours_survive_single_precision():
    colors = draws(200, color_jitter=JITTER)
    assert torch.equal(colors.float().double(), colors)


RED, DARK = (200, 0, 0), (100, 40, 60)


@pytest.mark.parametrize(
    "colors, pixels, expected",
    [
        (UNCHANGED, [RED, DARK], [RED, DARK]),
        ((0.5, 1, 1, 0, 0), [RED, DARK], [(100, 0, 0), (50, 20, 30)]),
        ((2, 1, 1, 0, 0), [RED, DARK], [(255, 0, 0), (200, 80, 120)]),
        ((1, 0, 1, 0, 0), [(50, 50, 50), (150, 150, 150)], [(100, 100, 100)] * 2),  # all the mean grey
        ((1, 1, 0, 0, 0), [RED, DARK], [(60, 60, 60), (60, 60, 60)]),  # 0.299 r + 0.587 g + 0.114 b
        ((1, 1, 1, 0.5, 0), [RED], [(0, 200, 200)]),  # the opposite hue
        ((1, 1, 1, 1 / 3, 0), [RED], [(0, 200, 0)]),
        ((1, 1, 1, 0, 1), [RED, DARK], [(60, 60, 60), (60, 60, 60)]),
        ((0.5, 1, 1, 0.5, 0), [RED], [(0, 100, 100)]),
    ],
)
def test_what_colours_mean(colors, pixels, expected):
    image = Image.fromarray(np.array([pixels], dtype=np.uint8))
    result = np.asarray(recolored(image, colors)).astype(int)
    assert np.abs(result - np.array([expected])).max() <= 3  # 8 bits of hue


@pytest.mark.parametrize(
    "options, match",
    [
        ({"crop_scale": (0.9, 0.5)}, r"`crop_scale=\(0\.9, 0\.5\)` is not a range.*at most 1.*Pass"),
        ({"crop_scale": (0, 1)}, "`crop_scale=.*above 0"),
        ({"crop_scale": [0.9]}, "`crop_scale=.*two numbers"),
        ({"crop_ratio": (-1, 2)}, "`crop_ratio=.*above 0"),
        ({"flip": 2}, "`flip=2` is not a probability.*between 0 and 1"),
        ({"color_jitter_prob": -1}, "`color_jitter_prob=-1` is not a probability"),
        ({"drop_alpha": 1.5}, "`drop_alpha=1.5` is not a probability"),
        ({"gray_scale_prob": float("nan")}, "`gray_scale_prob=nan` is not a probability"),
        (
            {"color_jitter": (0.4, 0.4, 0.4)},
            r"`color_jitter=\(0.4, 0.4, 0.4\)` is not a change of colours.*four numbers.*Pass",
        ),
        ({"color_jitter": (0.4, 0.4, 0.4, 0.6)}, "`color_jitter=.*at most 0.5"),
        ({"color_jitter": (-0.4, 0.4, 0.4, 0.1)}, "`color_jitter=.*at least 0"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        RandomCrop(**options)


def photograph(width, height):
    """A JPEG with the spectrum of photographs: the amplitude falls with the frequency, and colours vary less."""
    rng, frequency = np.random.default_rng(0), np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    noise = np.fft.fft2(rng.standard_normal((4, height, width)))
    light, *colors = np.fft.ifft2(noise / (frequency + 1 / width)).real
    pixels = np.stack([light / light.std() + 0.2 * color / color.std() for color in colors], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.clip(127 + 45 * pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize(("size", "decoded"), [((680, 512), (340, 256)), ((1360, 1024), (340, 256))])
def test_a_jpeg_is_decoded_at_the_size_that_the_smallest_crop_needs(size, decoded):
    data = photograph(*size)
    whole, small = decode_image(data), decode_image(data, min_side=RandomCrop().min_side(224))
    assert whole.size == size and small.size == decoded
    seen = []
    for image in (whole, small):
        box = [share * side for share, side in zip((0.02, 0.03, 0.97, 0.98), 2 * image.size, strict=True)]
        seen.append(np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box=box)).astype(int))
    # JPEG's own loss at this quality is 1 to 2 of 256 levels.
    difference = np.abs(seen[0] - seen[1])
    assert difference.mean() < 4 and np.percentile(difference, 99) < 15


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.25, 1.0)])
def test_no_crop_has_fewer_pixels_than_the_model_sees(scale):
    crop = RandomCrop(crop_scale=scale)
    side = crop.min_side(224)
    for uniforms in torch.rand(200, UNIFORMS_PER_ROW, generator=torch.Generator().manual_seed(0)).tolist():
        left, top, right, bottom = crop.draw((side, side), uniforms).box
        assert (right - left) * (bottom - top) > 0.99 * 224**2
