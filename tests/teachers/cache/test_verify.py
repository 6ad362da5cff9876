"""Comparison of a shard with some of its rows computed again; data may hold a sample twice."""

from pathlib import Path

import pytest
import torch

from hf_clip_kd.teachers.cache.verify import largest_difference

# Samples 5 and 7 stand twice in the shard, each time with crops of their own.
IDS = torch.tensor([5, 7, 9, 5, 7, 5])


def shard():
    draw = torch.Generator().manual_seed(0)
    return {
        "ids": IDS,
        "boxes": torch.rand(6, 2, 4, generator=draw),
        "0.image_embeds": torch.rand(6, 2, 3, generator=draw) + 1,
    }


def rows_of(stored, start, stop):
    return {name: values[start:stop].clone() for name, values in stored.items()}


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (2, 4), (3, 5), (4, 6), (5, 6), (0, 6)])
def test_rows_are_found_where_they_stand(start, stop):
    stored = shard()
    assert largest_difference(Path("shard"), stored, rows_of(stored, start, stop), 0.01) == 0


@pytest.mark.parametrize(
    ("name", "how"), [("ids", "`ids` are others"), ("0.image_embeds", r"`0.image_embeds` differ by 0\.\d+ of their")]
)
def test_other_rows_are_refused(name, how):
    stored = shard()
    fresh = rows_of(stored, 3, 5)
    fresh[name] = fresh[name] + 1
    with pytest.raises(ValueError, match=f"shard is not what the teachers say now: its {how}.*Delete this file"):
        largest_difference(Path("shard"), stored, fresh, 0.01)
