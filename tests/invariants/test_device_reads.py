"""A step waits for its device once at most, outside of the log: for the flag of its guard."""

from collections import Counter

import cache_world
import pytest
import torch
from device_reads import DeviceReads
from every_loss import make_run
from miniature import make_args
from teacher_models import tiny_clip

import hf_clip_kd as kd
from hf_clip_kd.losses import LOSSES

FUSED = {"optim": "adamw_torch_fused", "learning_rate": 1e-4, "logging_steps": 100}
# These two read as many answers as the texts have words, which only the device knows.
DYNAMIC = {"reader", "caption"}
SPLITS = {
    "plain": {},
    "grad_cache": {"gradient_accumulation_steps": 2},
    "accumulation": {"gradient_accumulation_steps": 2, "grad_cache": False},
    "average_bf16": {"ema_decay": 0.9, "bf16": True},
}


def reads_of(run, reads):
    with reads.watching():
        run.train()
    assert reads.steps == run.state.max_steps
    return reads.sites


@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
def test_a_step_reads_one_number(tmp_path, changes):
    reads = DeviceReads()
    run = make_run(tmp_path, sorted(LOSSES.keys() - DYNAMIC), callbacks=[reads], **FUSED | changes)
    sites = reads_of(run, reads)
    # The first step has one more, which tells whether the run learns at all.
    assert reads.steps <= len(sites) <= reads.steps + 1, Counter(sites)


@pytest.mark.parametrize("name", sorted(DYNAMIC))
@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
def test_a_loss_on_words_waits_once_more_for_their_number(tmp_path, name, changes):
    reads = DeviceReads()
    run = make_run(tmp_path, [name], callbacks=[reads], **FUSED | changes)
    sites = reads_of(run, reads)
    micro_batches = changes.get("gradient_accumulation_steps", 1)
    # GradCache has one batch of all captions. A reader reads each micro-batch.
    times = 1 if name == "caption" and run.args.grad_cache else micro_batches
    assert reads.steps * (1 + times) <= len(sites) <= reads.steps * (1 + times) + 1, Counter(sites)


def test_a_cached_step_reads_one_number(tmp_path):
    cache_world.writer(tmp_path / "cache", cache_world.teacher()).write()
    cache, reads = kd.TeacherCache(tmp_path / "cache"), DeviceReads()
    student, processor = tiny_clip()
    run = kd.DistillationTrainer(
        model=student,
        args=make_args(tmp_path / "run", losses="clip_kd", per_device_train_batch_size=4, **FUSED),  # one epoch
        teacher_model=cache,
        train_dataset=cache_world.dataset(),
        data_collator=kd.ReplayCollator(processor, cache, max_broken_fraction=1.0),
        callbacks=[reads],
    )
    sites = reads_of(run, reads)
    assert reads.steps <= len(sites) <= reads.steps + 1, Counter(sites)


def test_a_read_is_counted(tmp_path):
    """A callback that looks at the model in each step."""
    reads = DeviceReads()
    run = make_run(tmp_path, ["clip"], callbacks=[reads], **FUSED)
    look = run.meters.add
    run.meters.add = lambda mode, values, share: (float(values["loss/clip"]), look(mode, values, share))
    reads_of(run, reads)
    assert len(reads.sites) >= 2 * reads.steps and any("test_device_reads.py" in site for site in reads.sites)


X, PLACES = torch.arange(6.0), torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("X[0].item()", 1),
        ("bool(X[0])", 1),
        ("int(X[0])", 1),
        ("float(X[0])", 1),
        ("[1, 2, 3][PLACES[0]]", 1),
        ("X.tolist()", 1),
        ("X.numpy()", 1),
        ("X.cpu()", 1),
        ("X.to('cpu')", 1),
        ("X.to(device='cpu')", 1),
        ("X.nonzero()", 1),
        ("torch.where(X > 2)", 1),
        ("X[X > 2]", 1),
        ("X.masked_select(X > 2)", 1),
        ("X.clone().index_put_((X > 2,), X[:3])", 1),
        ("torch.equal(X, X)", 1),
        ("X.unique()", 1),
        ("PLACES.bincount()", 1),
        ("X[:2].repeat_interleave(PLACES)", 1),
        ("X[PLACES]", 0),
        ("X.to(torch.float64)", 0),
        ("X.masked_fill(X > 2, 0)", 0),
        ("torch.where(X > 2, X, 0)", 0),
        ("X.index_add(0, PLACES, X[:2])", 0),
        ("X[:2].repeat_interleave(PLACES, output_size=2)", 0),
    ],
)
def test_what_counts_as_a_read(code, count):
    reads = DeviceReads()
    with reads.watching():
        reads.counting = True
        eval(code)
    assert len(reads.sites) == count and all(site.startswith("<string>") for site in reads.sites)
