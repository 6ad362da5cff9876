"""Questions from stored features: the same tokens and logits as from pixels, without the tower."""

import pytest
import torch
from llava_runs import make_model
from PIL import Image

from hf_clip_kd.evaluation.vqa import Sample, question_picture
from hf_clip_kd.evaluation.vqa.inputs import model_inputs
from hf_clip_kd.vlm import FeatureCache, image_name, reading_features, stored_pictures, training_picture


def questions():
    """Ask about pictures in memory: three colours, one of them half transparent, and none."""
    clear = Image.new("RGBA", (40, 30), (0, 0, 255, 128))
    pictures = [Image.new("RGB", (40, 30), "red"), clear, Image.new("RGB", (50, 50), "green"), None]
    return [Sample(i, picture, "What colour" + " is it" * i) for i, picture in enumerate(pictures)]


def store(folder, model, processor, samples):
    cache = FeatureCache(folder, model, processor)
    seeing = [sample for sample in samples if sample.image is not None]
    cache.add(seeing, question_picture, name=lambda sample: image_name(question_picture(sample)))
    return cache


@pytest.mark.parametrize("layer", [-2, [-2, -1]], ids=str)
@pytest.mark.parametrize("tower", ["clip", "resnet"])
def test_a_question_from_stored_features_is_that_from_pixels(tower, layer, tmp_path):
    model, processor = make_model(tower, layer)
    model.eval()
    samples = questions()
    cache = store(tmp_path, model, processor, samples)
    assert len(cache) == 3
    pixels = model_inputs(processor, samples)
    states = model_inputs(stored_pictures(processor, cache), samples)
    assert torch.equal(states["input_ids"], pixels["input_ids"])
    assert torch.equal(states["attention_mask"], pixels["attention_mask"])
    with torch.no_grad():
        expected = model(**pixels).logits
        for child in model.model.vision_tower.children():
            child.register_forward_pre_hook(lambda *_: pytest.fail("the tower was called"))
        with reading_features(model):
            found = model(**states).logits
            other = model(**states | {"pixel_values": states["pixel_values"].flip(0)}).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other, expected, rtol=1e-4, atol=1e-5), "the pictures differ"


def test_text_alone_needs_no_features(tmp_path):
    model, processor = make_model()
    samples = questions()[-1:]
    inputs = model_inputs(stored_pictures(processor, FeatureCache(tmp_path, model, processor)), samples)
    assert set(inputs) == {"input_ids", "attention_mask"}


def test_pictures_are_named_by_their_pixels():
    pictures = [Image.new("RGB", size, color) for size in ((2, 3), (3, 2)) for color in ("red", "blue")]
    assert len({image_name(picture) for picture in pictures}) == 4
    assert image_name(pictures[0]) == image_name(pictures[0].copy())


def test_a_file_that_changed_has_another_name(tmp_path):
    path = tmp_path / "a.png"
    image = {"bytes": None, "path": str(path)}
    Image.new("RGB", (4, 4), "red").save(path)
    before = image_name(image)
    assert image_name(image) == before
    Image.new("RGB", (5, 5), "red").save(path)
    assert image_name(image) != before


def test_a_stored_row_is_a_view_of_the_file(tmp_path):
    """Reading a slice by safetensors took a hundred times as long."""
    model, processor = make_model()
    samples = questions()
    cache = store(tmp_path, model, processor, samples)
    red, clear = (cache(question_picture(sample)) for sample in samples[:2])
    assert red.untyped_storage().data_ptr() == clear.untyped_storage().data_ptr()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_features_that_are_not_finite_are_not_stored(value, tmp_path):
    model, processor = make_model()
    with torch.no_grad():
        model.model.vision_tower.encoder.layers[0].mlp.fc2.bias[0] = value
    cache = FeatureCache(tmp_path, model, processor, torch.float16)
    pictures = [question_picture(sample) for sample in questions()[:2]]
    with pytest.raises(ValueError, match=r"not finite in torch.float16 for 2 of 2 images. The first is \w{64}\. A"):
        cache.add(pictures, lambda picture: picture.convert("RGB"))
    assert not any(tmp_path.glob("features-*"))


def test_a_damaged_file_is_named(tmp_path):
    model, processor = make_model()
    cache = store(tmp_path, model, processor, questions())
    (path,) = tmp_path.glob("features-*")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{path.name}: its checksum is .*Delete this file"):
        FeatureCache(tmp_path, model, processor)(question_picture(questions()[0]))
    path.write_bytes(data.replace(b'"checksum"', b'"chacksum"'))
    with pytest.raises(ValueError, match=f"{path.name}: its checksum is missing.*Delete this file"):
        FeatureCache(tmp_path, model, processor)(question_picture(questions()[0]))
    for text, told in ((b"[]", "cannot be read"), (data.replace(b'"2"', b'"9"', 1), "format version 9")):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=f"{path.name}: .*{told}"):
            FeatureCache(tmp_path, model, processor)
    assert len(cache) == 3


def test_a_blank_image_has_the_shape_of_any_that_is_stored(tmp_path):
    """The first image of a data set may be one that was left out."""
    model, processor = make_model(layer=[-2, -1])
    cache = FeatureCache(tmp_path, model, processor)
    with pytest.raises(ValueError, match="has no image, so the shape.*must be readable.*Repair the images"):
        cache.blank()
    good = {"bytes": None, "path": str(tmp_path / "good.png")}
    Image.new("RGB", (40, 30), "red").save(good["path"])
    cache.add([{"bytes": b"no picture", "path": None}, good], training_picture)
    assert len(cache) == 1
    assert cache.blank().shape == cache(good).shape and not cache.blank().any()
