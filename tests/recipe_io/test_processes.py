"""Processes on CPUs know of each other."""

import pytest
import torch

from hf_clip_kd.recipe_io import processes
from hf_clip_kd.recipe_io.processes import process_state


@pytest.mark.parametrize(
    "has_gpu, flag, cpu", [(False, "false", True), (True, "false", False), (True, "true", True)], ids=str
)
def test_accelerate_is_told_of_cpus(monkeypatch, has_gpu, flag, cpu):
    """`test_forty_kills` has two of them write a cache."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.setenv("ACCELERATE_USE_CPU", flag)
    monkeypatch.setattr(processes, "PartialState", lambda cpu: cpu)
    assert process_state() == cpu
