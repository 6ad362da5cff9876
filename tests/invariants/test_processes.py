"""Processes that `launch` forks from a server get the environment of their test, and say why they failed."""

import os
import signal
import time

import pytest
from processes import launch


def write_environment(rank, processes, port, folder):
    with open(f"{folder}/{rank}.txt", "w") as file:
        file.write(os.environ["HF_HOME"])


def fail(rank, processes, port, folder):
    raise KeyError(f"of process {rank}")


def crash(rank, processes, port, folder, times):
    """The first launches end by a signal after they left a file."""
    left = len(os.listdir(folder)) - 1  # one is that of its stack
    with open(f"{folder}/{os.getpid()}.txt", "w") as file:
        file.write(str(left))
    with open(f"{folder}.launches", "a") as file:
        file.write("*")
    if os.path.getsize(f"{folder}.launches") <= times:
        os.kill(os.getpid(), signal.SIGSEGV)


def hang(rank, processes, port, folder):
    time.sleep(60)


@pytest.mark.parametrize("number", [0, 1])
def test_each_launch_has_the_environment_of_its_test(number, tmp_path):
    launch(write_environment, 2, tmp_path)
    assert {(tmp_path / f"{rank}.txt").read_text() for rank in range(2)} == {os.environ["HF_HOME"]}


def test_a_failure_shows_its_traceback(tmp_path):
    with pytest.raises(Exception, match="in fail\n(.*\n)*KeyError: 'of process 0'"):
        launch(fail, 1, tmp_path)


def test_a_launch_out_of_time_shows_where_it_stands(tmp_path):
    with pytest.raises(TimeoutError, match=r"after 0.5 seconds(.*\n)*.*test_processes.py.* in hang"):
        launch(hang, 1, tmp_path, seconds=0.5)


def test_a_launch_after_a_crash_starts_from_an_empty_folder(tmp_path):
    (folder := tmp_path / "folder").mkdir()
    with pytest.warns(UserWarning, match=r"again after a crash: .*SIGSEGV(.*\n)*.*test_processes.py.* in crash"):
        launch(crash, 1, folder, 1, crashes=1)
    assert [path.read_text() for path in folder.glob("*.txt")] == ["0"]


@pytest.mark.parametrize("allowed", [0, 1])
def test_no_more_crashes_are_forgotten_than_allowed(allowed, tmp_path, recwarn):
    (folder := tmp_path / "folder").mkdir()
    launch(crash, 1, folder, 9, crashes=allowed)
    assert (tmp_path / "folder.launches").read_text() == "*" * (allowed + 1)
    assert len([warning for warning in recwarn if "again after a crash" in str(warning.message)]) == allowed
