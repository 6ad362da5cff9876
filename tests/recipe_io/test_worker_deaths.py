"""A dataloader worker that the system kills ends the run at once, in words that help."""

import multiprocessing
import os
import re
import signal
import socket
from multiprocessing import connection, reduction

import pytest
import torch
from cache_world import teacher, writer
from miniature import Pairs, make_trainer
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling

from hf_clip_kd.recipe_io.worker_deaths import explained_worker_death


class Deadly(Pairs):
    """A worker that reads row 17 dies, as it does where it wants more memory than there is."""

    def __getitem__(self, index):
        if index == 17 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def last_words(folder, work):
    """Return the last words of work in another process, since the news may come again at any time."""

    def live():
        torch.set_num_threads(1)  # a forked child has none of its parent's threads
        try:
            work()
        except RuntimeError as error:
            (folder / "words").write_text(str(error))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    process.join(120)
    process.kill()
    return (folder / "words").read_text()


def words(folder, **settings):
    return last_words(folder, lambda: make_trainer(folder, **settings).train())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_ends_the_run(tmp_path, workers):
    told = words(tmp_path, dataset=Deadly(), dataloader_num_workers=workers, save_strategy="steps", save_steps=1)
    assert told.startswith("A dataloader worker has died (") and "must live as long as its data are read." in told
    assert "`dataloader_num_workers`" in told and told.endswith("`--resume_from_checkpoint auto`.")
    assert not (tmp_path / "checkpoint-4").exists()


def test_an_evaluation_ends_too(tmp_path):
    told = words(tmp_path, eval_dataset=Deadly(), dataloader_num_workers=1, eval_strategy="steps", eval_steps=1)
    assert told.startswith("A dataloader worker has died (")


def test_an_evaluation_alone_ends_too(tmp_path):
    settings = {"eval_dataset": Deadly(), "dataloader_num_workers": 1, "eval_strategy": "epoch"}
    told = last_words(tmp_path, lambda: make_trainer(tmp_path, **settings).evaluate())
    assert told.startswith("A dataloader worker has died (")


class DeadlyRows:
    """Rows of a cache, of which one ends the worker that reads it."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, rows.column_names

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index == 17 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.rows[index]


def test_the_writer_of_a_cache_ends_too(tmp_path):
    def write():
        made = writer(tmp_path / "cache", teacher(), num_workers=1)
        made.dataset = DeadlyRows(made.dataset)
        made.write()

    told = last_words(tmp_path, write)
    assert told.startswith("A dataloader worker has died (")
    assert told.endswith("Lower `dataloader_num_workers`, and run the same command again: it goes on.")


def from_a_pipe():
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    return ours.recv()


def from_a_socket():
    ours, theirs = socket.socketpair()
    theirs.close()
    return reduction.recvfds(ours, 1)


def from_an_address():
    return connection.Client("/there/is/no/socket")


@pytest.mark.parametrize(
    "receive, told", [(from_a_pipe, "EOFError"), (from_a_socket, "EOFError"), (from_an_address, "[Errno 2]")]
)
def test_a_batch_that_cannot_be_received_any_more(receive, told, monkeypatch):
    """The worker died after it had told of the batch, and before it had sent the memory with it."""
    monkeypatch.delattr(socket.socket, "connect")  # The guard of the tests would be the last frame.

    class Dead:
        def __getitem__(self, index):
            return receive()

        def __len__(self):
            return 1

    with (
        pytest.raises(RuntimeError, match=rf"^A dataloader worker has died \(DataLoader worker: {re.escape(told)}"),
        explained_worker_death(),
    ):
        next(iter(DataLoader(Dead())))


NEWS = "DataLoader worker (pid 1) is killed by signal: Killed. "


@pytest.fixture
def news(monkeypatch):
    """Let PyTorch find a dead worker whenever a child has ended, and return the signal of that."""
    kept = signal.getsignal(signal.SIGCHLD)

    def find():
        raise RuntimeError(NEWS)

    monkeypatch.setattr(signal_handling, "_error_if_any_worker_fails", find)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    yield lambda: signal.raise_signal(signal.SIGCHLD)
    signal.signal(signal.SIGCHLD, kept)


def test_news_of_the_signal_are_told_wherever_the_program_is(news):
    """The words must not depend on a `try` around it, which the program may have left by then."""
    with pytest.raises(RuntimeError) as caught, explained_worker_death():
        try:
            news()
        except RuntimeError as error:
            assert str(error).startswith("A dataloader worker has died (DataLoader worker (pid 1) is killed")
            raise
    assert caught.value.__cause__.args == (NEWS,)


def test_news_in_the_midst_of_another_telling(news):
    with pytest.raises(RuntimeError, match="^A dataloader worker has died"), explained_worker_death():
        try:
            raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
        finally:
            news()


def test_news_are_told_once(news):
    with pytest.raises(RuntimeError, match="^A dataloader worker has died"), explained_worker_death():
        try:
            news()
        finally:
            news()


def test_within_another_the_first_words_stay(news):
    with (
        pytest.raises(RuntimeError, match=r"without a word\. Outer fix\.$"),
        explained_worker_death("Outer fix."),
        explained_worker_death("Inner fix."),
    ):
        news()


def test_the_handler_before_is_back_at_the_end(news):
    with explained_worker_death():
        pass
    with pytest.raises(RuntimeError, match="^DataLoader worker"):
        news()


@pytest.mark.parametrize("error", [RuntimeError("another"), EOFError("of a file"), ConnectionError("of the network")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error), match=f"^{error}$"), explained_worker_death():
        raise error
