"""Heat maps of texts on pictures: hand-made patches, and a model's own embeddings."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from teacher_models import TEXTS, images, tiny_clip

from hf_clip_kd import models
from hf_clip_kd.evaluation.representation import heat_maps

MODULE = importlib.import_module("hf_clip_kd.evaluation.representation.heat_maps")
TEXT_EMBEDS = {"first": [1.0, 0.0], "second": [0.0, 1.0]}


@pytest.fixture
def made_up(monkeypatch):
    """Return the maps of a model that sees patches as it is told. `sizes` are those of its pictures."""
    sizes = []

    def process(images, return_tensors):
        sizes.extend(image.size for image in images)
        return {"pixel_values": torch.zeros(len(images))}

    def maps(patches, pictures, asked):
        monkeypatch.setattr(
            MODULE, "read_patches", lambda model, pixels: torch.tensor(patches).repeat(len(pixels), 1, 1)
        )
        return heat_maps(torch.nn.Identity(), SimpleNamespace(image_processor=process), pictures, asked)

    monkeypatch.setattr(MODULE, "check_patches", lambda model: None)
    monkeypatch.setattr(
        MODULE,
        "encode_texts",
        lambda model, processor, texts, **_: torch.tensor([TEXT_EMBEDS[text] for text in texts]),
    )
    maps.sizes = sizes
    return maps


def test_a_patch_is_near_its_text_and_far_from_the_other(made_up):
    """The texts less their mean are (0.5, -0.5) and (-0.5, 0.5). The patches have lengths that do not count."""
    patches = [[3.0, 0.0], [0.0, 2.0], [0.0, 0.1], [0.6, 0.8]]
    first, second = made_up(patches, images(1, (20, 30)), [(0, "first"), (0, "second")])
    np.testing.assert_array_equal(first.values, [[255, 0], [0, 102]])
    np.testing.assert_array_equal(second.values, [[0, 255], [255, 153]])
    assert (first.low, first.high) == (second.low, second.high) == (-0.5, 0.5)
    assert made_up.sizes == [(30, 30)]


def test_nothing_is_taken_off_a_text_that_is_alone(made_up):
    (found,) = made_up([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, -1.0]], images(1), [(0, "first")])
    assert (found.low, found.high) == (0, 1)
    np.testing.assert_array_equal(found.values, [[255, 0], [153, 0]])


def test_a_fine_grid_is_averaged_and_an_even_map_is_zero(made_up):
    """A grid of 32 × 32 whose left half is near the text becomes one of 16 × 16."""
    grid = np.zeros((32, 32, 2), dtype=np.float32)
    grid[:, :16, 0] = grid[:, 16:, 1] = 1
    (found,) = made_up(grid.reshape(-1, 2).tolist(), images(1), [(0, "first")])
    np.testing.assert_array_equal(found.values, np.repeat([[255] * 8 + [0] * 8], 16, axis=0))
    (even,) = made_up([[1.0, 0.0]] * 4, images(1), [(0, "first")])
    assert not even.values.any() and even.low == even.high == 1


def test_a_broken_picture_has_no_map_and_the_others_keep_theirs(made_up):
    pictures = ["missing.png", *images(20, (8, 8))]
    asked = [(20, "first"), (0, "first"), (1, "second")]
    found = made_up([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], pictures, asked)
    assert found[1] is None
    assert (found[0].values.ravel()[0], found[2].values.ravel()[0]) == (255, 0)


def test_patches_that_are_no_square(made_up):
    with pytest.raises(ValueError, match="Identity sees a square picture as 6 patches.*Leave this model out"):
        made_up([[1.0, 0.0]] * 6, images(1), [(0, "first")])


def test_values_are_those_of_the_models_embeddings():
    model, processor = tiny_clip()
    model.eval()
    (picture,) = images(1, (32, 32))
    with torch.no_grad():
        pixels = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
        ids = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")["input_ids"]
        texts = F.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)
        patches = F.normalize(models.encode_patches(model, pixels)[2][0], dim=-1)
    expected = (patches @ (texts - texts.mean(dim=0)).T).T
    found = heat_maps(model, processor, [picture], [(0, text) for text in TEXTS])
    for heat_map, values in zip(found, expected.numpy(), strict=True):
        assert (heat_map.low, heat_map.high) == pytest.approx((values.min(), values.max()), abs=1e-5)
        shown = heat_map.low + heat_map.values.ravel() / 255 * (heat_map.high - heat_map.low)
        np.testing.assert_allclose(shown, values, atol=(heat_map.high - heat_map.low) / 500)


def test_a_picture_is_shown_whole():
    """A model that cuts the middle out of a wide picture would not see its ends."""
    model, processor = tiny_clip()
    model.eval()
    wide = Image.new("RGB", (96, 32))
    wide.paste((255, 0, 0), (0, 0, 16, 32))
    (found,) = heat_maps(model, processor, [wide], [(0, TEXTS[0])])
    (plain,) = heat_maps(model, processor, [Image.new("RGB", (96, 32))], [(0, TEXTS[0])])
    assert (found.low, found.high) != (plain.low, plain.high)
