"""Waits for the GPU in a step, as CUDA itself reports them: one, for the flag of the guard.

python -m pytest -m '' tests/gpu/test_synchronisations_on_gpu.py
"""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from every_loss import make_run  # noqa: E402

from hf_clip_kd.losses import LOSSES  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


# These two read as many answers as the texts have words. The host waits for that number.
DYNAMIC = {"reader", "caption"}


class Watched(TrainerCallback):
    """CUDA warns of each synchronisation from the second step to the last but one."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            torch.cuda.set_sync_debug_mode("warn")

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps - 1:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - DYNAMIC))
def test_a_step_waits_once(tmp_path, name):
    run = make_run(
        tmp_path, [name], use_cpu=False, optim="adamw_torch_fused", logging_steps=100, callbacks=[Watched()], bf16=True
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run.train()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    assert len(places) <= run.state.max_steps - 2, places
