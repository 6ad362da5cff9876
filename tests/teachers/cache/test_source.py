"""Rows of a cache by shards: batches are counted before any row is read."""

import pytest

from hf_clip_kd.teachers.cache.source import ShardedRows


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 23])
@pytest.mark.parametrize("wanted", [lambda shard: True, lambda shard: shard % 2 == 1], ids=["all", "odd"])
def test_batches_are_counted(rows, wanted):
    source = ShardedRows(list(range(rows)), shard_size=8, batch_size=3)
    assert source.count_batches(wanted) == len(list(source.batches(wanted)))


def test_a_stream_has_no_count():
    source = ShardedRows(iter(range(9)), shard_size=8, batch_size=3)
    assert source.count_batches(lambda shard: True) is None
    assert len(list(source.batches())) == 4
