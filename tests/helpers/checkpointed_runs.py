"""Miniature runs that save checkpoints, and comparisons of them."""

import json

import torch
from miniature import make_clip, make_trainer

from hf_clip_kd.training.checkpoint_files import MARK


def make_run(folder, **changes):
    """A checkpoint after each of four steps."""
    settings = {"save_strategy": "steps", "save_steps": 1, "train_sampling_strategy": "random"}
    return make_trainer(folder, student=make_clip(attention_dropout=0.2), **settings | changes)


def assert_same(run, expected):
    assert run.state.global_step == expected.state.global_step
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name


def names(folder):
    return sorted(path.name for path in folder.iterdir() if "checkpoint" in path.name)


def as_of_version_2(checkpoint, *unknown):
    """Give a checkpoint an earlier version's mark: it has sizes of files, no checksums, and lacks some entries."""
    mark = json.loads((checkpoint / MARK).read_text())
    run = {name: value for name, value in mark["run"].items() if name not in unknown}
    sizes = {name: content["bytes"] for name, content in mark["files"].items()}
    (checkpoint / MARK).write_text(json.dumps({"format_version": 2, "run": run, "files": sizes}))
