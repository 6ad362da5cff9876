"""Micro-batches with GradCache against one batch: the value, every gradient, and what is left behind."""

from dataclasses import fields, replace

import pytest
import torch
from miniature import Pairs, make_clip
from torch import nn

from hf_clip_kd.distillation_model import DistillationModel
from hf_clip_kd.features import CLIPDims, CLIPFeatures
from hf_clip_kd.grad_cache import cached_losses, concatenate
from hf_clip_kd.losses import LOSSES, requested

SIZES = [5, 3, 4]
TEACHER = CLIPDims(20, token_dim=14, has_bias=True)
DRAWS_A_MASK = {name for name in LOSSES if requested({name: 1.0}).mask_ratio is not None}


def make_model(losses, student=None) -> DistillationModel:
    """In fp64, with the same heads every time."""
    student = make_clip() if student is None else student
    torch.manual_seed(0)
    return DistillationModel(student, losses, TEACHER).double()


def make_batches(sizes=SIZES) -> list[dict]:
    """What `forward` takes for each micro-batch; together they are the same rows for all `sizes` of one sum."""
    count, generator = sum(sizes), torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    tokens = random(4, TEACHER.token_dim)
    teacher = CLIPFeatures(
        image_embeds=random(20),
        text_embeds=random(20),
        logit_scale=torch.tensor(20.0),
        logit_bias=torch.tensor(-5.0),
        synthetic_text_embeds=random(20),
        image_tokens=tokens,
        image_grid=(2, 2),
        patch_embeds=random(4, 20),
        token_moments=torch.stack([tokens.mean(1), tokens.square().mean(1)], dim=1),
    )
    pairs = Pairs(count)
    rows = {"pixel_values": pairs.pixels.double(), "input_ids": pairs.ids, "synthetic_input_ids": pairs.ids.flip(0)}

    def part(i, x):
        return x.split(sizes)[i] if x.ndim else x

    return [
        {name: part(i, x) for name, x in rows.items()} | {"teacher_features": teacher.map(lambda x, i=i: part(i, x))}
        for i in range(len(sizes))
    ]


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-12}


def window_step(model, batches) -> torch.Tensor:
    """What a trainer does with the losses of a window; gradients are in the model, the logged loss comes back."""
    losses = []
    for outputs in cached_losses(model, batches):
        (outputs["loss"] / len(batches)).backward()
        losses.append(outputs["loss"].detach())
    return torch.stack(losses).mean()


def kept_step(model, batches, seeds) -> torch.Tensor:
    """The same from plain autograd, which keeps the activations of every micro-batch; `seeds` by micro-batch."""
    parts = []
    for i, batch in enumerate(batches):
        if i in seeds:
            torch.manual_seed(seeds[i])
        parts.append(model.student_features(**{name: x for name, x in batch.items() if name != "teacher_features"}))
    rows = {name: [part.tensors()[name] for part in parts] for name, x in parts[0].tensors().items() if x.ndim}
    student = replace(parts[0], **{name: torch.cat(values) for name, values in rows.items()})
    (whole,) = make_batches([sum(len(batch["input_ids"]) for batch in batches)])
    loss, _ = model.objective(student, whole["teacher_features"])
    loss.backward()
    return loss.detach()


def expected_step(name, sizes, seeds) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Value and gradients of one batch, without any accumulation."""
    model = make_model({name: 1.0})
    if name in DRAWS_A_MASK:  # which depends on the size of the batch
        return kept_step(model, make_batches(sizes), seeds), gradients(model)
    loss = model(**make_batches([sum(sizes)])[0])["loss"]
    loss.backward()
    return loss.detach(), gradients(model)


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_have_value_and_gradients_of_one_batch(name):
    model = make_model({name: 1.0})
    torch.manual_seed(7)
    result = window_step(model, make_batches()), gradients(model)
    torch.testing.assert_close(result, expected_step(name, SIZES, {0: 7}), rtol=1e-8, atol=1e-11)
    assert result[1]


def test_mean_over_micro_batches_is_something_else():
    # So the test above can fail.
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
        with torch.autocast("cpu", dtype):  # as around a forward pass, not around a backward pass
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
        for field in fields(CLIPFeatures):
            value, expected = getattr(result, field.name), getattr(whole, field.name)
            assert torch.equal(value, expected) if isinstance(expected, torch.Tensor) else value == expected, (
                field.name
            )
