"""Waits for the GPU in a step, as CUDA itself reports them: one, for the flag of the guard.

python -m pytest -m '' tests/gpu/test_synchronisations_on_gpu.py
"""

import warnings

import cache_world
import pytest
import torch
from every_loss import make_run
from miniature import make_args
from teacher_models import tiny_clip
from transformers import TrainerCallback

import hf_clip_kd as kd
from hf_clip_kd.losses import LOSSES

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


# These two read as many answers as the texts have words. The host waits for that number.
DYNAMIC = {"reader", "caption"}
SETTINGS = {"use_cpu": False, "optim": "adamw_torch_fused", "logging_steps": 100}
CHANGES = {
    "bf16": {"bf16": True},
    "grad_cache": {"gradient_accumulation_steps": 2},
    "average": {"ema_decay": 0.9},
    # The scaler asks whether a gradient was too large.
    "fp16": {"fp16": True},
}


class Watched(TrainerCallback):
    """CUDA warns of each synchronisation from the second step to the last but one."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            torch.cuda.set_sync_debug_mode("warn")

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps - 1:
            torch.cuda.set_sync_debug_mode("default")


def assert_waits(run, most=1):
    """Train, and count what CUDA warns of: at least one wait in a step, or nothing was counted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run.train()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    steps = run.state.max_steps - 2
    assert steps <= len(places) <= most * steps, places


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - DYNAMIC))
def test_a_step_waits_once(tmp_path, name):
    assert_waits(make_run(tmp_path, [name], callbacks=[Watched()], bf16=True, **SETTINGS))


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_of_many_losses_waits_once(tmp_path, change):
    names = sorted(LOSSES.keys() - DYNAMIC)
    run = make_run(tmp_path, names, callbacks=[Watched()], **SETTINGS, **CHANGES[change])
    assert_waits(run, most=2 if change == "fp16" else 1)


def test_a_cached_step_waits_once(tmp_path):
    cache_world.writer(tmp_path / "cache", cache_world.teacher()).write()
    cache, (student, processor) = kd.TeacherCache(tmp_path / "cache"), tiny_clip()
    run = kd.DistillationTrainer(
        model=student,
        args=make_args(tmp_path / "run", losses="clip_kd", per_device_train_batch_size=4, **SETTINGS),  # one epoch
        teacher_model=cache,
        train_dataset=cache_world.dataset(),
        data_collator=kd.ReplayCollator(processor, cache, max_broken_fraction=1.0),
        callbacks=[Watched()],
    )
    assert_waits(run)
