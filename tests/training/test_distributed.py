"""Several processes compute the same values and gradients on their shares of a batch as one on all of it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from loss_inputs import WORDS, captions, rows_of
from made_up_reader import answers_about
from processes import join, launch, leave
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_clip_kd.distillation.model import gather_features
from hf_clip_kd.losses import LOSSES, LossSum, requested
from hf_clip_kd.losses.answers import Captions
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.training.distributed import gather, rank, world_size

BATCH, INPUT, STUDENT_DIM, TEACHER_DIM = 12, 5, 8, 6
STUDENT_GRID, TEACHER_GRID = (2, 2), (3, 3)
STUDENT_TOKENS, TEACHER_TOKENS = (4, 7), (9, 10)  # tokens, channels
# Rows of the 12 that each process holds, by number of processes and case.
SHARES = {2: {"even": [6, 6], "uneven": [9, 3]}, 3: {"even": [4, 4, 4], "uneven": [7, 1, 4]}}
# Every loss, each other kind of data it can read, and all at once.
RUNS = {
    **{name: {name: 1.0} for name in LOSSES},
    "relation of tokens": {"relation": {"level": "tokens"}},
    "patch of layers": {
        "patch": {"pairs": [[-2, -2], [-1, -4, 0.5]], "hidden_dim": 5, "statistics": 2, "summary": "class_token"}
    },
    "reinforced by an ensemble": {"reinforced": 1.0},
    "sum": dict.fromkeys(LOSSES, 0.5),
    "patch by an ensemble": {"patch": 1.0},
    "sum by an ensemble": dict.fromkeys(LOSSES, 0.5),
}


class Model(nn.Module):
    """Linear towers with a learned scale and bias, gathering their embeddings before the losses as a real run does."""

    def __init__(self, run):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text, self.masked = (nn.Linear(INPUT, STUDENT_DIM) for _ in range(3))
        self.tokens = nn.Linear(INPUT, math.prod(STUDENT_TOKENS))
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-3.0]))
        dims, own = CLIPDims(TEACHER_DIM, TEACHER_TOKENS[1]), CLIPDims(STUDENT_DIM, STUDENT_TOKENS[1], has_bias=True)
        members = (dims, dims) if "ensemble" in run else ()
        self.request = requested(RUNS[run])
        self.losses = LossSum(RUNS[run], replace(own, vocab_size=WORDS), replace(dims, members=members))
        self.double()

    def forward(self, image, text, synthetic, ids, teacher):
        wanted = self.request
        student = CLIPFeatures(
            image_embeds=self.image(image),
            text_embeds=self.text(text),
            logit_scale=self.logit_scale[0].exp(),
            logit_bias=self.logit_bias[0],
            masked_image_embeds=None if wanted.mask_ratio is None else self.masked(image),
            synthetic_text_embeds=self.text(synthetic),
            captions=Captions.of(ids),
        )
        # Each layer has tokens and a class token of its own.
        tokens = {layer: self.tokens(image + layer).unflatten(1, STUDENT_TOKENS) for layer in wanted.student_reads}
        grids = dict.fromkeys(tokens, STUDENT_GRID)
        student = student.with_tokens({at: (x, x[:, 0].sin()) for at, x in tokens.items()}, grids, wanted)
        return self.losses(gather_features(student), gather_features(teacher), gather)[0]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def teacher_of(seed: int, wanted: FeatureRequest) -> CLIPFeatures:
    """Return a teacher's features of the whole batch."""
    layers = {}
    for layer in wanted.teacher_reads:
        tokens = 2 + random(seed - layer, BATCH, *TEACHER_TOKENS)
        moments = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
        layers[layer] = CLIPFeatures(
            image_tokens=tokens,
            image_grid=TEACHER_GRID,
            token_moments=moments if wanted.token_moments else None,
            class_token=random(seed + 5 - layer, BATCH, TEACHER_TOKENS[1]) if wanted.class_token else None,
        )
    return CLIPFeatures(
        image_embeds=random(seed + 1, BATCH, TEACHER_DIM),
        text_embeds=random(seed + 2, BATCH, TEACHER_DIM),
        logit_scale=torch.tensor(20.0, dtype=torch.float64),
        synthetic_text_embeds=random(seed + 3, BATCH, TEACHER_DIM),
        image_grid=TEACHER_GRID,
        patch_embeds=random(seed + 4, BATCH, TEACHER_TOKENS[0], TEACHER_DIM) if wanted.patch_embeds else None,
        answers=() if wanted.readers is None else (answers_about(layers[wanted.teacher_layer].image_tokens),),
    ).with_layers(layers)


def share(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    return x.split(sizes)[rank()]


def train_step(run: str, sizes: list[int]) -> dict[str, torch.Tensor]:
    """Value and gradients, by name, of one step on this process's share."""
    model = Model(run)
    # No loss but the sum uses all of the towers, scale and bias.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    inputs = [share(x, sizes) for x in (*(random(seed, BATCH, INPUT) for seed in range(3)), captions(BATCH).ids)]
    teacher, other = (teacher_of(seed, model.request) for seed in (10, 20))
    teacher = CLIPFeatures(members=(teacher, other)) if "ensemble" in run else teacher
    value = wrapped(*inputs, rows_of(teacher, share(torch.arange(BATCH), sizes)))
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    moments = {name: x for name, x in model.losses.named_buffers() if name.endswith("moments")}
    return {"value": value.detach(), **gradients, **moments}


def gather_step(sizes: list[int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """`gather` under a different weighting on every process, so a wrong sum or slice shows."""
    rows = share(random(0, BATCH, INPUT), sizes).to(dtype).requires_grad_()
    everything = gather(rows)
    weights = [torch.full_like(everything, r + 1) * everything.detach() for r in range(world_size())]
    (weights[rank()] * everything).sum().backward()
    return {
        "rows": everything.detach(),
        "gradient": rows.grad,
        "integers": gather(torch.arange(sizes[rank()]) + 100 * rank()),
    }


def worker(index: int, world: int, port: int, folder: str) -> None:
    join(index, world, port)
    dist.init_process_group("gloo")
    results = {}
    for case, sizes in SHARES[world].items():
        for dtype in (torch.float64, torch.bfloat16):
            results[case, "gather", dtype] = gather_step(sizes, dtype)
        for run in RUNS:
            results[case, run] = train_step(run, sizes)
    torch.save(results, Path(folder) / f"rank{index}.pt")
    leave()


@pytest.fixture(
    scope="module",
    # Two processes find what three find, but for a process that is neither the first nor the last.
    params=[2, pytest.param(3, marks=pytest.mark.slow)],
    ids=lambda world: f"{world}processes",
)
def results(request, tmp_path_factory) -> list[dict]:
    """Return the results of each process of one launch."""
    world, folder = request.param, tmp_path_factory.mktemp("gloo")
    launch(worker, world, folder)
    return [torch.load(folder / f"rank{r}.pt", weights_only=False) for r in range(world)]


@pytest.mark.parametrize("case", ["even", "uneven"])
@pytest.mark.parametrize("run", RUNS)
def test_loss_and_gradients_are_those_of_one_process(results, case, run):
    expected = train_step(run, [BATCH])
    assert len(expected) > 1  # a gradient beside the value
    for result in results:
        torch.testing.assert_close(result[case, run], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["even", "uneven"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.bfloat16, 1e-2)])
def test_gather_returns_all_rows_and_sums_their_gradients(results, case, dtype, tolerance):
    sizes, rows = SHARES[len(results)][case], random(0, BATCH, INPUT).to(dtype)
    weight_of_all = sum(range(1, len(results) + 1))
    for result, gradient in zip(results, (weight_of_all * rows).split(sizes), strict=True):
        result = result[case, "gather", dtype]
        assert torch.equal(result["rows"], rows)
        torch.testing.assert_close(result["gradient"], gradient, rtol=tolerance, atol=tolerance)
        assert result["integers"].tolist() == [100 * r + i for r, n in enumerate(sizes) for i in range(n)]


def test_one_process_gathers_nothing():
    x = torch.randn(3, 2, requires_grad=True)
    assert gather(x) is x
    assert (world_size(), rank()) == (1, 0)
