"""Processes that `launch` forks from a server get the environment of their test, and say why they failed."""

import os
import time

import pytest
from processes import launch


def write_environment(rank, processes, port, folder):
    with open(f"{folder}/{rank}.txt", "w") as file:
        file.write(os.environ["HF_HOME"])


def fail(rank, processes, port, folder):
    raise KeyError(f"of process {rank}")


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
