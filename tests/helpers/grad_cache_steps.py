"""One step over micro-batches, and the same step over one batch."""

from dataclasses import replace

import torch
from loss_inputs import rows_of
from made_up_reader import answers_about
from miniature import Pairs, make_clip

from hf_clip_kd.distillation.grad_cache import cached_losses
from hf_clip_kd.distillation.model import DistillationModel
from hf_clip_kd.losses import LOSSES, requested
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures

SIZES = [5, 3, 4]


TEACHER = CLIPDims(20, token_dim=14, has_bias=True)


DRAWS_A_MASK = {name for name in LOSSES if requested({name: 1.0}).mask_ratio is not None}


def make_model(losses, student=None) -> DistillationModel:
    """Make a model in fp64, with the same heads every time."""
    student = make_clip() if student is None else student
    torch.manual_seed(0)
    return DistillationModel(student, losses, TEACHER).double()


def make_batches(sizes=SIZES) -> list[dict]:
    """Return the arguments of `forward` for each micro-batch. All `sizes` of one sum share the same rows."""
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
        answers=(answers_about(tokens),),
    )
    pairs = Pairs(count)
    rows = {"pixel_values": pairs.pixels.double(), "input_ids": pairs.ids, "synthetic_input_ids": pairs.ids.flip(0)}

    return [
        {name: x[own] for name, x in rows.items()} | {"teacher_features": rows_of(teacher, own)}
        for own in torch.arange(count).split(sizes)
    ]


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-12}


def window_step(model, batches) -> torch.Tensor:
    """Do a trainer's step with the losses of a window. The model has the gradients; return the logged loss."""
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
    loss = model.objective(student, whole["teacher_features"])["loss"]
    loss.backward()
    return loss.detach()


def expected_step(name, sizes, seeds) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Value and gradients of one batch, without any accumulation."""
    model = make_model({name: 1.0})
    if name in DRAWS_A_MASK:  # the mask depends on the size of the batch
        return kept_step(model, make_batches(sizes), seeds), gradients(model)
    loss = model(**make_batches([sum(sizes)])[0])["loss"]
    loss.backward()
    return loss.detach(), gradients(model)
