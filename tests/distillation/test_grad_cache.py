"""Micro-batches with GradCache against one batch: the value, every gradient, and what is left behind."""

from dataclasses import fields

import pytest
import torch
from grad_cache_steps import SIZES, expected_step, gradients, kept_step, make_batches, make_model, window_step
from miniature import make_clip
from torch import nn

from hf_clip_kd.distillation.grad_cache import cached_losses, concatenate
from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.features import CLIPFeatures


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_have_value_and_gradients_of_one_batch(name):
    model = make_model({name: 1.0})
    torch.manual_seed(7)
    result = window_step(model, make_batches()), gradients(model)
    torch.testing.assert_close(result, expected_step(name, SIZES, {0: 7}), rtol=1e-8, atol=1e-11)
    assert result[1]


DENSE = {"patch": {"pairs": [[-2, -2], [-1, -2, 0.5]], "hidden_dim": 5, "statistics": 2, "summary": "image_embeds"}}


def test_several_layers_and_statistics_of_a_window_are_those_of_one_batch():
    """The window counts as one batch, however many micro-batches and passes it has."""
    model, whole = make_model(DENSE), make_model(DENSE)
    for step in (1, 2, 3):
        result = window_step(model, make_batches()), gradients(model)
        loss = whole(**make_batches([sum(SIZES)])[0])["loss"]
        loss.backward()
        torch.testing.assert_close(result, (loss.detach(), gradients(whole)), rtol=1e-8, atol=1e-11)
        for own, expected in zip(model.losses.buffers(), whole.losses.buffers(), strict=True):
            assert torch.equal(own, expected)
        seen = [value.item() for name, value in model.losses.named_buffers() if name.endswith("seen")]
        assert seen == [min(step, 2)] * 3


def test_mean_over_micro_batches_is_something_else():
    # The test above can fail.
    model, whole = make_model({"clip": 1.0}), make_model({"clip": 1.0})
    losses = [model(**batch)["loss"] for batch in make_batches()]
    assert abs(torch.stack(losses).mean() - whole(**make_batches([sum(SIZES)])[0])["loss"]) > 0.1


@pytest.mark.parametrize("losses", [{"clip": 1.0, "fd": 1.0}, {"clip": 1.0, "mfd": 1.0}], ids=str)
def test_second_pass_draws_the_same_random_numbers(losses):
    cached, kept, other = [make_model(losses, make_clip(attention_dropout=0.3)) for _ in range(3)]
    torch.manual_seed(7)
    value = window_step(cached, make_batches())
    state = torch.get_rng_state()
    expected = kept_step(kept, make_batches(), {0: 7})
    assert torch.equal(torch.get_rng_state(), state), "as after one pass"
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(cached), gradients(kept), rtol=1e-8, atol=1e-11)
    assert abs(kept_step(other, make_batches(), {0: 8}) - expected) > 1e-4, "the random numbers matter"


def test_random_numbers_drawn_between_micro_batches_change_nothing():
    still, disturbed = [make_model({"clip": 1.0}, make_clip(attention_dropout=0.3)) for _ in range(2)]
    torch.manual_seed(7)
    window_step(still, make_batches())
    torch.manual_seed(7)
    for outputs in cached_losses(disturbed, make_batches()):
        (outputs["loss"] / len(SIZES)).backward()
        torch.rand(100)
    torch.testing.assert_close(gradients(disturbed), gradients(still), rtol=0, atol=0)


def with_batch_norm():
    student = make_clip()
    student.visual_projection = nn.Sequential(student.visual_projection, nn.BatchNorm1d(12))
    return student


def test_batch_norm_is_updated_once_and_normalises_each_micro_batch():
    cached, kept = make_model({"clip": 1.0}, with_batch_norm()), make_model({"clip": 1.0}, with_batch_norm())
    value, expected = window_step(cached, make_batches()), kept_step(kept, make_batches(), {})
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(cached), gradients(kept), rtol=1e-8, atol=1e-11)
    norm = cached.student.visual_projection[1]
    assert norm.num_batches_tracked == len(SIZES)
    torch.testing.assert_close(dict(cached.named_buffers()), dict(kept.named_buffers()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_loses_no_gradient(dtype):
    """An objective whose gradient is 0 in fp16 until a scaler lifts it."""
    losses, scale = {"clip": 1e-7, "fd": 1e-7}, 2.0**22
    half, full = make_model(losses).float(), make_model(losses)
    batches = make_batches()
    window_step(full, batches)
    for batch in batches:
        batch["pixel_values"] = batch["pixel_values"].float()
    losses = cached_losses(half, batches)
    for _ in batches:
        with torch.autocast("cpu", dtype):  # autocast surrounds a forward pass, and no backward pass
            outputs = next(losses)
        assert outputs["loss"].dtype == torch.float32
        (scale * outputs["loss"] / len(batches)).backward()
    for name, expected in gradients(full).items():
        error = (half.get_parameter(name).grad / scale - expected).norm() / expected.norm()
        assert error < 0.1, name


def test_frozen_parts_stay_frozen():
    model = make_model({"clip": 1.0, "fd": 1.0})
    frozen = [*model.student.text_model.parameters(), model.losses.terms["fd"].text_proj.weight, model.logit_scale]
    for parameter in frozen:
        parameter.requires_grad_(False)
    window_step(model, make_batches())
    assert all(p.grad is None for p in frozen)
    assert model.student.visual_projection.weight.grad.abs().sum() > 0


def test_concatenate_takes_rows_of_each_and_what_is_shared_once():
    batches = [batch["teacher_features"] for batch in make_batches()]
    (whole,) = [batch["teacher_features"] for batch in make_batches([sum(SIZES)])]
    ensembles = [CLIPFeatures(members=(part, part)) for part in batches]
    for result in (concatenate(batches), *concatenate(ensembles).members):
        assert torch.equal(result.answers[0].logits, whole.answers[0].logits)
        tokens = torch.randn(sum(SIZES), 4, 14, dtype=torch.float64)
        torch.testing.assert_close(result.answers[0].read(tokens), whole.answers[0].read(tokens))
        for field in fields(CLIPFeatures):
            value, expected = getattr(result, field.name), getattr(whole, field.name)
            if field.name == "answers":
                continue
            assert torch.equal(value, expected) if isinstance(expected, torch.Tensor) else value == expected, (
                field.name
            )
