"""Scaling on paper agrees with the bytes that two and three processes receive and hold."""

import pytest
import torch
import torch.distributed as dist
from miniature import ALL_LOSSES, Teacher, make_clip
from processes import join, launch, leave
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from hf_clip_kd.distillation.model import DistillationModel
from recipes.maintenance.tables.scaling import ENGINES, Setting, ring_bytes

BATCH, STUDENT, TEACHER = 5, 12, 20


def size(tensor):
    return tensor.numel() * tensor.element_size()


def measure(rank, processes, port, folder):
    """One step under DDP, with every byte counted that this process takes from another."""
    join(rank, processes, port)
    dist.init_process_group("gloo")
    received = {"gathered": 0, "gradients": 0, "sizes": 0}
    all_gather, all_reduce = dist.all_gather, dist.all_reduce

    def counted_gather(parts, value):
        kind = "gathered" if value.is_floating_point() else "sizes"
        received[kind] += sum(size(part) for index, part in enumerate(parts) if index != rank)
        return all_gather(parts, value)

    def counted_reduce(value, **options):
        if not options:  # DDP's own are counted by its hook
            received["gathered"] += ring_bytes(size(value), processes)
        return all_reduce(value, **options)

    def counted_bucket(state, bucket):
        received["gradients"] += ring_bytes(size(bucket.buffer()), processes)
        return allreduce_hook(state, bucket)

    dist.all_gather, dist.all_reduce = counted_gather, counted_reduce
    teacher = Teacher(make_clip(24, TEACHER))
    model = DistillationModel(make_clip(projection=STUDENT), ALL_LOSSES, teacher.dims)
    wrapped = DistributedDataParallel(model)
    wrapped.register_comm_hook(None, counted_bucket)
    optimizer = torch.optim.AdamW(model.parameters())
    batch = {"pixel_values": torch.randn(BATCH, 3, 16, 16), "input_ids": torch.tensor([[rank, 4, 39]] * BATCH)}
    wrapped(**batch, teacher_features=teacher(**batch))["loss"].backward()
    optimizer.step()
    held = [*model.parameters(), *(p.grad for p in model.parameters())]
    held += [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    received["state"] = sum(map(size, held))
    received["parameters"] = sum(p.numel() for p in model.parameters())
    received["teacher parameters"] = sum(p.numel() for p in teacher.parameters())
    received["teacher"] = sum(map(size, teacher.parameters()))
    torch.save(received, f"{folder}/{rank}.pt")
    leave()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_paper_and_measurement_agree(processes, tmp_path):
    launch(measure, processes, tmp_path)
    for rank in range(processes):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        paper = Setting(processes, BATCH, STUDENT, TEACHER, found["parameters"], found["teacher parameters"])
        assert paper.gathered_bytes() == pytest.approx(found["gathered"], abs=2 * processes)  # rounding of each ring
        assert paper.gradient_bytes() == pytest.approx(found["gradients"], abs=2 * processes)
        assert paper.state_bytes("ddp") == found["state"]
        assert paper.teacher_bytes() == found["teacher"]
        assert found["sizes"] < 200, "how many rows each has"


def test_by_hand():
    # There are 4 processes with 10 pairs, and widths 3 and 5. A process receives images and texts of 30 other pairs.
    # It also receives the gradients of 40 rows in a ring.
    full = Setting(4, 10, 3, 5, student_parameters=100, teacher_parameters=1000)
    assert full.gathered_bytes() == 2 * 30 * (3 + 5) * 4 + 2 * (2 * 40 * 3 * 4) * 3 // 4
    assert full.gradient_bytes() == 2 * 400 * 3 // 4
    per_parameter = {"ddp": 16, "zero1": 8 + 12 / 4, "zero2": 4 + 16 / 4, "zero3": 20 / 4, "fsdp2": 16 / 4}
    assert {engine: full.state_bytes(engine) / 100 for engine in ENGINES} == per_parameter
    assert (full.teacher_bytes(), full.teacher_bytes(sharded=True)) == (4000, 1000)
    half = Setting(4, 10, 3, 5, student_parameters=100, teacher_parameters=1000, half=True)
    assert half.gathered_bytes() == full.gathered_bytes() - 2 * 30 * 3 * 2
    assert (half.state_bytes("zero3"), half.teacher_bytes()) == (16 / 4 * 100, 2000)
    assert full.similarity_flops() == 2 * 40 * 40 * (3 * 3 + 5)
