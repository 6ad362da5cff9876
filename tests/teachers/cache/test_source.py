"""Batches of rows are counted before they are read."""

import pytest

from hf_clip_kd.teachers.cache.source import ShardedRows


@pytest.mark.parametrize(
    ("rows", "shard_size", "batch_size", "there", "batches"),
    [
        (22, 8, 3, set(), 3 + 3 + 2),  # shards of 8, 8 and 6 rows
        (22, 8, 3, {1}, 3 + 2),  # a second run, which finds a shard
        (16, 8, 8, set(), 2),
        (1, 8, 3, set(), 1),
        (22, 8, 3, {0, 1, 2}, 0),
    ],
)
def test_the_count_is_that_of_the_batches(rows, shard_size, batch_size, there, batches):
    source = ShardedRows(range(rows), shard_size, batch_size)
    missing = [shard not in there for shard in range(source.shards)]
    assert source.count_batches(missing.__getitem__) == batches
    assert len([batch for batch in source.batches(missing.__getitem__) if batch]) == batches


def test_a_stream_has_no_count():
    assert ShardedRows(iter(range(5)), 2, 2).count_batches() is None
