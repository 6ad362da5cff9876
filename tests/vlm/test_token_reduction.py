"""Towers with fewer tokens: what is averaged or laid side by side, and a LLaVA that trains on them."""

import pytest
import torch
from aligned import aligned
from llava_runs import make_rows
from teacher_models import tiny_clip
from torch.nn.functional import avg_pool2d, unfold
from transformers import LlavaForConditionalGeneration
from vlm_parts import image_processor, language_model, picture, timm_tower

from hf_clip_kd.models import ReducedTower
from hf_clip_kd.models.towers.checksum import tower_checksum
from hf_clip_kd.vlm import (
    FeatureCache,
    LlavaDataCollator,
    build_llava,
    load_llava,
    load_tower,
    reading_features,
    save_llava,
)
from hf_clip_kd.vlm.feature_cache import stored_pictures


def build(tower="vit_with_registers", **arguments):
    causal, tokenizer = language_model()
    if tower == "clip":
        dual, processor = tiny_clip()
        return build_llava(dual, causal, tokenizer=tokenizer, image_processor=processor.image_processor, **arguments)
    return build_llava(timm_tower(tower), causal, tokenizer=tokenizer, image_processor=image_processor(), **arguments)


@pytest.mark.parametrize("reduction", ["pool", "shuffle"])
@pytest.mark.parametrize(("side", "factor"), [(2, 2), (1, 4), (2, 3)])
def test_neighbours_are_averaged_or_laid_side_by_side(reduction, side, factor):
    grid = side * factor
    model, _ = build(image_size=16 * grid, image_tokens=side**2, token_reduction=reduction)
    tower, pixels = model.model.vision_tower, torch.randn(2, 3, 16 * grid, 16 * grid)
    with torch.no_grad():
        whole = tower.tower(pixels, output_hidden_states=-1).hidden_states[-1]
        found = tower(pixels, output_hidden_states=-1).hidden_states[-1]
        every = tower(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(every[-1], found)
    patches = whole[:, 5:].transpose(1, 2).unflatten(2, (grid, grid))  # The class token and four registers come first.
    expected = (
        avg_pool2d(patches, factor).flatten(2) if reduction == "pool" else unfold(patches, factor, stride=factor)
    )
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("tower", "count", "reduction", "layer"),
    [
        ("clip", 4, "shuffle", -2),
        ("clip", 1, "pool", [-2, -1]),
        ("vit_with_registers", 9, "pool", -2),
        ("convnext", 1, "shuffle", [-2, -1]),
    ],
)
def test_trains_generates_saves_and_reloads(tower, count, reduction, layer, tmp_path):
    model, processor = build(tower, image_tokens=count, token_reduction=reduction, vision_feature_layer=layer)
    assert type(model) is LlavaForConditionalGeneration and isinstance(model.model.vision_tower, ReducedTower)
    assert not [name for name, value in model.state_dict().items() if value.is_meta]
    inputs = processor(images=[picture()], text="<image>\nWhat shape?", return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == count == model.config.image_seq_length
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    gradients = [
        parameter.grad.abs().sum() for parameter in model.model.vision_tower.parameters() if parameter.grad is not None
    ]
    assert gradients and torch.stack(gradients).sum() > 0
    with torch.no_grad():
        expected = model(**inputs).logits
        assert model.generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]
    save_llava(model, processor, tmp_path)
    loaded, again = load_llava(tmp_path)
    with torch.no_grad():
        assert torch.equal(aligned(loaded)(**inputs).logits, expected)
    assert torch.equal(
        again(images=[picture()], text="<image>", return_tensors="pt")["pixel_values"], inputs["pixel_values"]
    )
    # A tower that is used again has all its tokens.
    inner = model.model.vision_tower.tower
    assert tower_checksum(load_tower(tmp_path)[0]) == tower_checksum(inner)


def test_reductions_of_a_tower_share_its_stored_features(tmp_path):
    rows = list(make_rows(4, text_only=()))
    for count in (None, 9, 4):
        model, processor = build(image_tokens=count)
        cache = FeatureCache(tmp_path, model, processor)
        cache.add([image for row in rows for image in row["images"]], lambda image: picture(seed=1))
        assert len(list(tmp_path.glob("*.safetensors"))) == 1
        collator = LlavaDataCollator(processor, tower_features=cache)
        with torch.no_grad():
            pixels = processor.image_processor([picture(seed=1)] * 4, return_tensors="pt")["pixel_values"]
            batch = collator(rows)
            expected = model(**batch | {"pixel_values": pixels}).logits
            with reading_features(model):
                torch.testing.assert_close(model(**batch).logits, expected)
                reader = stored_pictures(processor, lambda image, kept=batch["pixel_values"][0]: kept)
                words = reader(images=[picture()], text="<image>", return_tensors="pt")["input_ids"]
        assert (words == processor.image_token_id).sum() == collator.num_image_tokens


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_tokens": 5}, r"image_tokens=5 .*4x4 patches\. Allowed are 16, 9, 4, 1\..*image_tokens=9"),
        ({"image_tokens": 9, "token_reduction": "shuffle"}, r"image_tokens=9 .*Allowed are 16, 4, 1\."),
        ({"image_tokens": 25}, "image_tokens=25"),
        ({"token_reduction": "pool"}, "`token_reduction='pool'` without `image_tokens`.*Add the number"),
        ({"image_tokens": -4}, "image_tokens=-4"),
        (
            {"image_tokens": 4, "token_reduction": "max"},
            "token_reduction='max' is unknown. Allowed are pool and shuffle",
        ),
    ],
)
def test_numbers_that_cannot_be_had_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build("vit", **arguments)
