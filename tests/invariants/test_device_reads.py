"""A step waits for its device once at most, outside of the log: for the flag of its guard."""

import pytest
from device_reads import DeviceReads
from every_loss import make_run

from hf_clip_kd.losses import LOSSES

FUSED = {"optim": "adamw_torch_fused", "learning_rate": 1e-4, "logging_steps": 100}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 2, "grad_cache": False},
        {"ema_decay": 0.9, "bf16": True},
    ],
    ids=["plain", "grad_cache", "accumulation", "average_bf16"],
)
def test_a_step_reads_one_number(tmp_path, changes):
    reads = DeviceReads()
    run = make_run(tmp_path, LOSSES, callbacks=[reads], **FUSED | changes)
    with reads.watching():
        run.train()
    assert reads.steps == run.state.max_steps
    # The first step has one more, which tells whether the run learns at all.
    assert len(reads.sites) <= reads.steps + 1, sorted(set(reads.sites))


def test_a_read_is_counted(tmp_path):
    """The counter itself: a callback that looks at the model in each step."""
    reads = DeviceReads()
    run = make_run(tmp_path, ["clip"], callbacks=[reads], **FUSED)
    look = run.meters.add
    run.meters.add = lambda mode, values, share: (float(values["loss/clip"]), look(mode, values, share))
    with reads.watching():
        run.train()
    assert len(reads.sites) > 2 * reads.steps and any("test_device_reads.py" in site for site in reads.sites)
