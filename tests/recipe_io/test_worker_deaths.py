"""A dataloader worker that the system kills ends the run at once, in words that help."""

import multiprocessing
import os
import signal

import pytest
import torch
from cache_world import teacher, writer
from miniature import Pairs, make_trainer
from torch.utils.data import DataLoader, get_worker_info

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


def test_a_batch_that_cannot_be_received_any_more():
    """The worker died after it had told of the batch, and before it had sent the memory with it."""

    class Dead:
        def __getitem__(self, index):
            ours, theirs = multiprocessing.Pipe()
            theirs.close()
            return ours.recv()

        def __len__(self):
            return 1

    with (
        pytest.raises(RuntimeError, match=r"^A dataloader worker has died \(DataLoader worker: EOFError\)"),
        explained_worker_death(),
    ):
        next(iter(DataLoader(Dead())))


def test_the_news_may_come_again_while_the_error_is_on_its_way(monkeypatch):
    again = iter([RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")])

    def silence():
        for error in again:
            raise error

    monkeypatch.setattr("hf_clip_kd.recipe_io.worker_deaths._silence", silence)
    with pytest.raises(RuntimeError, match=r"^A dataloader worker has died \("), explained_worker_death():
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")


@pytest.mark.parametrize("error", [RuntimeError("another"), EOFError("of a file"), ConnectionError("of the network")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error), match=f"^{error}$"), explained_worker_death():
        raise error
