"""What several processes compute on their shares of a batch is what one computes on all of it: values and gradients."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_clip_kd.distributed import gather, rank, world_size
from hf_clip_kd.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses import LOSSES, LossSum

BATCH, INPUT, STUDENT_DIM, TEACHER_DIM = 12, 5, 8, 6
# How many of the 12 rows each process holds, by number of processes and case.
SHARES = {2: {"even": [6, 6], "uneven": [9, 3]}, 3: {"even": [4, 4, 4], "uneven": [7, 1, 4]}}
LAUNCH_SECONDS = 120


class Model(nn.Module):
    """Two linear towers with a learned scale and bias, gathering their features before the losses."""

    def __init__(self, losses):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(INPUT, STUDENT_DIM), nn.Linear(INPUT, STUDENT_DIM)
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-3.0]))
        self.losses = LossSum(losses, CLIPDims(STUDENT_DIM, has_bias=True), CLIPDims(TEACHER_DIM))
        self.double()

    def forward(self, image, text, teacher_image, teacher_text):
        student = CLIPFeatures(
            gather(self.image(image)), gather(self.text(text)), self.logit_scale[0].exp(), self.logit_bias[0]
        )
        teacher = CLIPFeatures(gather(teacher_image), gather(teacher_text), torch.tensor(20.0, dtype=torch.float64))
        return self.losses(student, teacher)[0]


def global_batch() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    widths = INPUT, INPUT, TEACHER_DIM, TEACHER_DIM
    return [torch.randn(BATCH, width, generator=generator, dtype=torch.float64) for width in widths]


def share(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    return x.split(sizes)[rank()]


def train_step(losses: dict, sizes: list[int]) -> dict[str, torch.Tensor]:
    """Value and gradients, by name, of one step on this process's share."""
    model = Model(losses)
    # fd and icl leave the student's own scale unused.
    wrapped = DistributedDataParallel(model, find_unused_parameters=True) if world_size() > 1 else model
    value = wrapped(*[share(x, sizes) for x in global_batch()])
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return {"value": value.detach(), **gradients}


def gather_step(sizes: list[int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """`gather` under a different weighting on every process, so a wrong sum or slice shows."""
    rows = share(global_batch()[0], sizes).to(dtype).requires_grad_()
    everything = gather(rows)
    weights = [torch.full_like(everything, r + 1) * everything.detach() for r in range(world_size())]
    (weights[rank()] * everything).sum().backward()
    return {
        "rows": everything.detach(),
        "gradient": rows.grad,
        "integers": gather(torch.arange(sizes[rank()]) + 100 * rank()),
    }


def worker(index: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=index, world_size=world)
    results = {}
    for case, sizes in SHARES[world].items():
        for dtype in (torch.float64, torch.bfloat16):
            results[case, "gather", dtype] = gather_step(sizes, dtype)
        for name in LOSSES:
            results[case, name] = train_step({name: 1.0}, sizes)
        results[case, "sum"] = train_step(dict.fromkeys(LOSSES, 0.5), sizes)
    torch.save(results, Path(folder) / f"rank{index}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads abort now and then while the interpreter shuts down; the result file is what counts


@pytest.fixture(scope="module", params=SHARES, ids=lambda world: f"{world}processes")
def results(request, tmp_path_factory) -> list[dict]:
    """What each process of one launch computed."""
    world, folder = request.param, tmp_path_factory.mktemp("gloo")
    context = mp.spawn(worker, (world, str(folder)), nprocs=world, join=False)
    try:
        context.join(timeout=LAUNCH_SECONDS)
        for process in context.processes:
            process.join(LAUNCH_SECONDS)
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"rank{r}.pt", weights_only=False) for r in range(world)]


@pytest.mark.parametrize("case", ["even", "uneven"])
@pytest.mark.parametrize("name", [*LOSSES, "sum"])
def test_loss_and_gradients_are_those_of_one_process(results, case, name):
    losses = dict.fromkeys(LOSSES, 0.5) if name == "sum" else {name: 1.0}
    expected = train_step(losses, [BATCH])
    for result in results:
        torch.testing.assert_close(result[case, name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["even", "uneven"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.bfloat16, 1e-2)])
def test_gather_returns_all_rows_and_sums_their_gradients(results, case, dtype, tolerance):
    sizes, rows = SHARES[len(results)][case], global_batch()[0].to(dtype)
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
