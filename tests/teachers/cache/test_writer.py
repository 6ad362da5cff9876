"""However often it is killed, shared out or streamed, a cache has the same bytes."""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from cache_world import dataset, ensemble, teacher, writer

import hf_clip_kd as kd
from hf_clip_kd.recipe_io import results


def digests(folder):
    """Name to hash of every file, those that should not be there as well."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A forked child has one, and with more of them sums have other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory):
    writer(tmp_path_factory.mktemp("warm_up"), ensemble()).write()  # the first one in a process is slower
    folder = tmp_path_factory.mktemp("peaceful")
    start = time.perf_counter()
    writer(folder, ensemble()).write()
    return digests(folder), time.perf_counter() - start


def test_the_bar_knows_its_end(tmp_path, capsys):
    writer(tmp_path, teacher()).write()
    assert "8/8 [" in capsys.readouterr().err  # 22 rows in shards of 8 and batches of 3


def test_numbers_that_are_not_finite_are_not_stored(tmp_path):
    loud = teacher()
    loud.model.visual_projection.weight.data *= 1e9
    with pytest.raises(ValueError, match="image_embeds is not finite in torch.float16 .* shard 0.*--dtype bfloat16"):
        writer(tmp_path, loud, dtype=torch.float16).write()
    assert not list(tmp_path.glob("shard-*"))


def in_a_child(action):
    """Run `action` in a process of its own and return that."""
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    return process


def write_with(replace):
    """Write with another `os.replace`, the moment at which a file gets its name."""

    def action(folder):
        results.os = SimpleNamespace(**vars(os) | {"replace": replace})
        writer(folder, ensemble()).write()

    return action


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_a_kill_at_every_file(tmp_path, peaceful, when):
    files = 0

    def kill_at(last):
        calls = []

        def replace(*paths):
            calls.append(paths)
            if len(calls) == last and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            os.replace(*paths)
            if len(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        return replace

    for last in range(1, 1 + len(peaceful[0])):
        folder = tmp_path / str(last)
        action = write_with(kill_at(last))
        child = in_a_child(lambda: action(folder))  # noqa: B023
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        files += sum(path.suffix == ".tmp" for path in folder.iterdir())
        writer(folder, ensemble()).write()
        assert digests(folder) == peaceful[0]
    assert files == (len(peaceful[0]) if when == "before" else 0), "the kills came where they were meant to"


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path, peaceful):
    draws, killed, attempts = random.Random(0), 0, 0
    while killed < 10:
        attempts += 1
        assert attempts < 50, "most children finish before they are killed"
        folder = tmp_path / str(attempts)
        action = write_with(os.replace)
        child = in_a_child(lambda: action(folder))  # noqa: B023
        time.sleep(draws.uniform(0.0, 1.0) * peaceful[1])
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        writer(folder, ensemble()).write()
        assert digests(folder) == peaceful[0]


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"batch_size": 8}])
def test_workers_and_batches_change_no_sample(tmp_path, peaceful, options):
    cache = writer(tmp_path, ensemble(), **options).write()
    if "num_workers" in options:
        assert digests(tmp_path) == peaceful[0]
    assert digests(tmp_path)["index.safetensors"] == peaceful[0]["index.safetensors"] and len(cache) == 21


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_the_same_shards(tmp_path, peaceful, workers):
    writer(tmp_path, ensemble(), dataset().to_iterable_dataset(num_shards=3), num_workers=workers).write()
    assert digests(tmp_path) == peaceful[0]


def test_processes_share_the_work(tmp_path, peaceful):
    def process(index):
        made = writer(tmp_path, ensemble())
        made.state = SimpleNamespace(process_index=index, num_processes=2, is_main_process=index == 0, device="cpu")
        made.state.wait_for_everyone = lambda: None
        return made

    assert process(1)._write() == 3
    assert [path.name for path in sorted(tmp_path.glob("shard-*"))] == ["shard-000001.safetensors"]
    process(0).write()
    assert digests(tmp_path) == peaceful[0]


def test_a_finished_cache_asks_nobody(tmp_path, monkeypatch):
    made = writer(tmp_path, teacher())
    made.write()
    before = digests(tmp_path)
    monkeypatch.setattr(made, "_ask", pytest.fail)
    made.write()
    assert digests(tmp_path) == before


def test_a_lost_file_is_written_again(tmp_path, peaceful):
    writer(tmp_path, ensemble()).write()
    (tmp_path / "shard-000001.safetensors").unlink()
    with pytest.raises(ValueError, match="is not finished: some of its files are missing"):
        kd.TeacherCache(tmp_path)
    writer(tmp_path, ensemble()).write()
    assert digests(tmp_path) == peaceful[0]


def test_a_cache_without_any_usable_row_stays_unfinished(tmp_path):
    rows = [row | {"image": {"bytes": b"", "path": "empty.png"}} for row in dataset().to_list()]
    broken = dataset().from_list(rows, features=dataset().features)
    for _ in range(2):  # the second call finds all shards
        with pytest.raises(ValueError, match=f"would hold 0 of {len(rows)} rows"):
            writer(tmp_path, teacher(), broken).write()
    with pytest.raises(ValueError, match="is not finished"):
        kd.TeacherCache(tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_cache_of_too_few_of_its_rows(tmp_path, streaming):
    rows = dataset().to_list()
    for row in rows[8:16]:
        row["image"] = {"bytes": b"", "path": "empty.png"}
    broken = dataset().from_list(rows, features=dataset().features)
    made = writer(tmp_path, teacher(), broken.to_iterable_dataset() if streaming else broken)
    made.collator.broken.max_fraction, made.collator.broken.min_seen = 0.3, 25
    with pytest.raises(ValueError, match=f"would hold 13 of {len(rows)} rows.*max_broken_fraction=0.3"):
        made.write()


def test_a_shard_without_any_usable_row(tmp_path):
    rows = dataset().to_list()
    for row in rows[8:16]:
        row["image"] = {"bytes": b"", "path": "empty.png"}
    broken = dataset().from_list(rows, features=dataset().features)
    cache = writer(tmp_path, teacher(), broken).write()
    assert len(cache) == 13
    assert cache._samples.ends == [7, 7, 13]
