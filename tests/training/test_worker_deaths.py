"""A dataloader worker that the system kills ends the run at once, in words that help."""

import os
import re
import signal
from pathlib import Path

import pytest
from miniature import Pairs, make_trainer
from processes import launch
from torch.utils.data import get_worker_info

from hf_clip_kd.training.worker_deaths import explained_worker_death


class Deadly(Pairs):
    """A worker that reads row 17 dies, as one does that wants more memory than there is."""

    def __getitem__(self, index):
        if index == 17 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def train(rank, processes, port, folder, options):
    """Leave the error of a run in a file. PyTorch raises it wherever the process is, so it ends at once."""
    run = make_trainer(Path(folder) / "run", dataset=Deadly(), **options)
    try:
        run.train()
    except RuntimeError as error:
        (Path(folder) / "error").write_text(f"step {run.state.global_step}: {error}")
    os._exit(0)


# Processes of their own: the signal of a worker's death reaches the process that started it, at any moment.
@pytest.mark.parametrize(
    "options",
    [
        {"dataloader_num_workers": 1},
        {"dataloader_num_workers": 2},
        {"dataloader_num_workers": 1, "eval_dataset": Deadly(), "eval_strategy": "steps", "eval_steps": 1},
    ],
    ids=["one", "two", "evaluation"],
)
def test_a_worker_that_is_killed_ends_the_run(options, tmp_path):
    launch(train, 1, tmp_path, options)
    told = (tmp_path / "error").read_text()
    assert re.match(r"step [0-2]: DataLoader worker .*memory.*dataloader_num_workers.*_checkpoint auto", told)


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="^another$"), explained_worker_death():
        raise RuntimeError("another")
