"""Batches of an evaluation: each row once, whatever the numbers of rows, processes and workers."""

from types import SimpleNamespace

import pytest
from datasets import Dataset
from torch.utils.data import IterableDataset

from hf_clip_kd.training.eval_batches import deal, eval_dataloader


def dealt(rows, size, world_size=1, nearest=True):
    """The batches of each process."""
    return [list(deal(range(rows), size, rank, world_size, nearest)) for rank in range(world_size)]


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_row_comes_once_and_in_order(world_size, nearest):
    for size in (3, 8):
        for rows in range(world_size, 40):
            processes = dealt(rows, size * world_size, world_size, nearest)
            assert len({len(batches) for batches in processes}) == 1, "all processes make as many steps"
            batches = [sum(parts, []) for parts in zip(*processes, strict=True)]
            assert sum(batches, []) == list(range(rows))
            for parts in zip(*processes, strict=True):
                lengths = [len(part) for part in parts]
                assert min(lengths) > 0 and max(lengths) - min(lengths) <= 1


SIZES = {5: [5], 8: [8], 9: [9], 11: [11], 12: [6, 6], 15: [7, 8], 17: [8, 9], 20: [8, 6, 6], 24: [8, 8, 8]}


@pytest.mark.parametrize("rows", SIZES)
def test_the_last_batches_are_as_near_to_the_size_as_can_be(rows):
    assert [len(batch) for batch in dealt(rows, 8)[0]] == SIZES[rows]


def test_batches_at_most_of_the_size():
    assert [len(batch) for batch in dealt(9, 8, nearest=False)[0]] == [4, 5]
    assert [len(batch) for batch in dealt(17, 8, nearest=False)[0]] == [8, 4, 5]


def test_fewer_rows_than_processes():
    with pytest.raises(ValueError, match="2 rows on 3 processes. Each process needs a row"):
        dealt(2, 6, world_size=3)
    assert dealt(0, 6, world_size=3) == [[], [], []]


class Counting(IterableDataset):
    def __iter__(self):
        return iter(range(20))


def settings(**changes):
    defaults = {
        "eval_batch_size": 4,
        "world_size": 2,
        "process_index": 0,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "dataloader_prefetch_factor": None,
        "dataloader_multiprocessing_context": None,
        "dataloader_drop_last": True,
    }
    return SimpleNamespace(**defaults | changes)


def seen(dataset, **changes):
    """Rows that the collators of both processes get, in the order of the batches."""
    processes = [
        list(eval_dataloader(dataset, list, settings(process_index=rank, **changes), nearest=True)) for rank in (0, 1)
    ]
    return [value for parts in zip(*processes, strict=True) for part in parts for value in part]


def test_a_stream_and_a_table_are_dealt_alike():
    rows = [{"x": i} for i in range(20)]
    assert seen(range(20)) == seen(Counting()) == list(range(20))
    assert seen(Dataset.from_list(rows)) == seen(Dataset.from_list(rows).to_iterable_dataset()) == rows


def test_workers_leave_no_row_out():
    stream = Dataset.from_list([{"x": i} for i in range(20)]).to_iterable_dataset(num_shards=3)
    for workers in (1, 2):
        found = seen(stream, dataloader_num_workers=workers)
        assert sorted(row["x"] for row in found) == list(range(20))
