"""Run whose checkpoints several tests look at."""

import shutil

import pytest
from checkpointed_runs import make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run: its trainer and folder."""
    folder = tmp_path_factory.mktemp("whole")
    run = make_run(folder)
    run.train()
    return run, folder


@pytest.fixture
def killed(whole, tmp_path):
    """The folder of the same run, which was killed after its third step."""
    folder = tmp_path / "killed"
    shutil.copytree(whole[1], folder)
    shutil.rmtree(folder / "checkpoint-4")
    return folder
