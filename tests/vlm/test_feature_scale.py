"""Features of any scale: measured as LLaVA reads them, scaled while training, and gone from the file bit by bit."""

import pytest
import torch
from vlm_parts import SIDE, image_processor, language_model, picture, timm_tower

from hf_clip_kd.vlm.build import build_llava
from hf_clip_kd.vlm.feature_scale import FeatureScale, measure_features

WEIGHT = "multi_modal_projector.linear_1.weight"


def llava(family="vit", layer=-2):
    model, tokenizer = language_model()
    return build_llava(
        timm_tower(family), model, tokenizer=tokenizer, image_processor=image_processor(), vision_feature_layer=layer
    )


def test_statistics_are_those_of_the_tokens_that_are_read():
    model, _ = llava("vit", [-2, -1])
    pixels = torch.randn(3, 3, SIDE, SIDE)
    model.model.vision_tower.train()
    found = measure_features(model, pixels)
    assert model.model.vision_tower.training
    model.eval()
    with torch.no_grad():
        states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = torch.cat([states[-2][:, 1:], states[-1][:, 1:]], -1)  # The class token is left out.
    assert found.mean == pytest.approx(features.mean().item(), abs=1e-6)
    assert found.std == pytest.approx(features.std().item(), rel=1e-5)
    assert found.max == pytest.approx(features.abs().max().item())
    torch.testing.assert_close(found.rms_per_channel, features.square().mean((0, 1)).sqrt())


def test_scale_is_the_nearest_power_of_two_and_one_where_nothing_is():
    model, _ = llava("convnext", [-2, -1])  # the narrow level is filled up with 8 channels of zeros
    statistics = measure_features(model, torch.randn(3, 3, SIDE, SIDE))
    scale = statistics.power_of_two_scale()
    assert torch.equal(scale[24:32], torch.ones(8))
    rms = statistics.rms_per_channel * scale
    rest = torch.cat([rms[:24], rms[32:]])
    assert rest.min() > 2**-0.51 and rest.max() < 2**0.51
    exact = statistics._replace(rms_per_channel=torch.tensor([4.0, 0.25, 1.0, 0.0, 3.0, 50.0, 1e-20]))
    assert exact.power_of_two_scale()[:6].tolist() == [0.25, 4, 1, 1, 0.25, 2**-6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_is_exact_and_exact_back(dtype):
    model, processor = llava()
    model.to(dtype)
    scale = FeatureScale(model, 2.0 ** torch.randint(-9, 9, (32,)))
    inputs = processor(images=[picture()], text="<image>\nWhat shape?", return_tensors="pt").to(dtype)
    plain = model(**inputs).logits
    scale.attach()
    scale.attach()
    scaled = model(**inputs).logits
    assert not torch.equal(scaled, plain)

    weights = model.state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    folded = scale.fold_(weights)
    assert folded is weights
    assert torch.equal(model.state_dict()["model." + WEIGHT], before["model." + WEIGHT])  # not the model's own
    adapters = {
        "base_model.model.multi_modal_projector.modules_to_save.default.linear_1.weight": before["model." + WEIGHT]
    }
    assert torch.equal(*scale.fold_(adapters).values(), folded["model." + WEIGHT])
    changed = [name for name in before if not torch.equal(folded[name], before[name])]
    assert changed == ["model." + WEIGHT]
    other, _ = llava()
    other.to(dtype).load_state_dict(folded)
    assert torch.equal(other(**inputs).logits, scaled)
    back = scale.unfold_(folded)
    assert torch.equal(back["model." + WEIGHT], before["model." + WEIGHT])

    scale.detach()
    scale.detach()
    assert torch.equal(model(**inputs).logits, plain)


def test_statistics_do_not_depend_on_an_attached_scale():
    model, _ = llava()
    pixels = torch.randn(1, 3, SIDE, SIDE)
    before = measure_features(model, pixels)
    FeatureScale(model, torch.full((32,), 64.0)).attach()
    assert torch.equal(measure_features(model, pixels).rms_per_channel, before.rms_per_channel)


@pytest.mark.parametrize("factor", [50.0, 1 / 50])
def test_projector_learns_from_features_of_any_scale(factor):
    """The loss after some steps is that of well-scaled features; without the scale it is not."""

    def train(factor, with_scale):
        model, processor = llava()
        torch.manual_seed(0)
        projector = model.model.multi_modal_projector
        for linear in (projector.linear_1, projector.linear_2):
            linear.reset_parameters()
        target = torch.randn(16, 32)
        pixels = torch.randn(2, 3, SIDE, SIDE)
        norm = model.model.vision_tower.trunk.blocks[0].register_forward_hook(lambda module, args, out: out * factor)
        if with_scale:
            FeatureScale(model, measure_features(model, pixels).power_of_two_scale()).attach()
        optimizer = torch.optim.AdamW(projector.parameters(), lr=1e-3)
        for _ in range(40):
            features = torch.stack(model.get_image_features(pixels).pooler_output)
            loss = (features - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        norm.remove()
        return loss.item()

    reference = train(1.0, True)
    assert train(factor, True) == pytest.approx(reference, rel=0.25)
    assert abs(train(factor, False) / reference - 1) > 0.25


def test_bad_scales():
    model, _ = llava()
    with pytest.raises(ValueError, match=r"shape \(3,\) and the projector reads 32 channels"):
        FeatureScale(model, torch.ones(3))
    for bad in (3.0, 0.0, -2.0, float("inf")):
        with pytest.raises(ValueError, match="no positive powers of two"):
            FeatureScale(model, torch.full((32,), bad))
    with pytest.raises(ValueError, match="into which the scale belongs.*model.state_dict"):
        FeatureScale(model, torch.ones(32)).fold_({"lm_head.weight": torch.ones(1)})
