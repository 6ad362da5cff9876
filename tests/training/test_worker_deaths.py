"""A dataloader worker that the system kills ends the run at once, in words that help."""

import os
import re
import signal

import pytest
import torch
from miniature import Pairs, make_trainer
from torch.utils.data import DataLoader, get_worker_info

from hf_clip_kd.training.worker_deaths import explained_worker_death


class Deadly(Pairs):
    """A worker that reads row 17 dies, as one does that wants more memory than there is."""

    def __getitem__(self, index):
        if index == 17 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_ends_the_run(tmp_path, workers):
    run = make_trainer(tmp_path, dataset=Deadly(), dataloader_num_workers=workers, save_strategy="steps", save_steps=1)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .*memory.*dataloader_num_workers.*_checkpoint auto"):
        run.train()
    assert 0 < run.state.global_step < 3


def test_an_evaluation_ends_too(tmp_path):
    run = make_trainer(tmp_path, eval_dataset=Deadly(), dataloader_num_workers=1, eval_strategy="steps", eval_steps=1)
    with pytest.raises(RuntimeError, match="A worker must live"):
        run.train()


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="^another$"), explained_worker_death():
        raise RuntimeError("another")


def test_words_of_pytorch():
    """Those that the explanation is bound to."""
    with pytest.raises(RuntimeError) as found:
        list(DataLoader(Deadly(), num_workers=1))
    assert re.match("DataLoader worker", str(found.value)) and torch.utils.data.get_worker_info() is None
