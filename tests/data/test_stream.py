"""Streams: each row once in a pass with any readers, the same order again, exact resume, weights and errors."""

import itertools
import json

import datasets
import numpy as np
import pytest
import torch
from clip_processor import processor
from tar_files import SIZES, write_tars

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.data.transforms.keyed_random import UNIFORMS_PER_ROW, order, row_uniforms

ROWS = sum(SIZES)


@pytest.fixture(scope="module")
def tars_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    write_tars(folder)
    return folder


@pytest.fixture(scope="module")
def tars(tars_folder):
    return load_image_text("webdataset", data_files=str(tars_folder / "*.tar"), streaming=True)


@pytest.mark.parametrize("number", [1, SIZES[0], SIZES[0] + 1, sum(SIZES[:2]) + 2, ROWS, ROWS + 5])
def test_the_first_samples_of_a_stream_are_those_of_the_table(number, tars_folder):
    source = load_image_text("webdataset", data_files=str(tars_folder / "*.tar"), streaming=True, max_samples=number)
    rows = list(itertools.islice(Stream(source, buffer_size=1), 2 * min(number, ROWS)))
    expected = list(range(min(number, ROWS)))
    assert [int(row["text"]) for row in source] == expected
    for epoch in (0, 1):
        assert sorted(int(row["text"]) for row in rows if row["__epoch__"] == epoch) == expected
    # The number of a row does not change with the number of samples.
    shards = [(shard, i) for shard, size in enumerate(SIZES) for i in range(size)]
    assert {(int(row["text"]), row["__index__"]) for row in rows} == {
        (text, shards[text][0] << 32 | shards[text][1]) for text in expected
    }


def table(size=ROWS, offset=0):
    data = datasets.Dataset.from_dict({"text": [str(offset + i) for i in range(size)]})
    return data.add_column("__index__", list(range(size)))


def keys(rows):
    return [(int(row["text"]), row["__epoch__"], row["__index__"]) for row in rows]


def take(loader, count):
    return list(itertools.islice(loader, count))


def read_by(make, world_size, num_workers, batches=8):
    """The keys that each process gets."""
    return [
        [
            key
            for batch in take(make().loader(3, keys, rank=r, world_size=world_size, num_workers=num_workers), batches)
            for key in batch
        ]
        for r in range(world_size)
    ]


@pytest.mark.parametrize("kind", ["tars", "table"])
@pytest.mark.parametrize("world_size, num_workers", [(1, 0), (1, 2), (2, 0), (2, 2), (3, 0)])
def test_readers_share_every_pass_and_none_runs_dry(kind, world_size, num_workers, tars):
    source = tars if kind == "tars" else table()
    per_process = read_by(lambda: Stream(source, seed=1, buffer_size=4), world_size, num_workers, batches=24)
    assert {len(rows) for rows in per_process} == {72}
    for epoch in (0, 1):
        rows = [text for rows in per_process for text, e, _ in rows if e == epoch]
        assert sorted(rows) == list(range(ROWS)), "each row once"
    assert all(len({index for text, _, index in itertools.chain(*per_process) if text == i}) == 1 for i in range(ROWS))


@pytest.mark.parametrize("kind", ["tars", "table"])
def test_the_order_follows_the_seed_and_changes_from_pass_to_pass(kind, tars):
    source = tars if kind == "tars" else table()

    def read(seed):
        return read_by(lambda: Stream(source, seed=seed, buffer_size=4), 1, 0, batches=20)[0]

    rows = read(1)
    assert read(1) == rows != read(2)
    passes = [[text for text, epoch, _ in rows if epoch == e] for e in (0, 1)]
    assert passes[0] != passes[1] and passes[0] != sorted(passes[0])


def test_a_buffer_shuffles_within_shards_and_one_keeps_their_order(tars):
    (kept,) = read_by(lambda: Stream(tars, buffer_size=1), 1, 0)
    shards = [[text for text, _, _ in rows] for _, rows in itertools.groupby(kept, key=lambda key: key[2] >> 32)]
    assert all(shard == sorted(shard) for shard in shards[:4])
    (shuffled,) = read_by(lambda: Stream(tars, buffer_size=20), 1, 0)
    assert shuffled[:20] != kept[:20] and sorted(shuffled[:20]) == sorted(kept[:20])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kinds", [("tars",), ("table",), ("tars", "table")])
def test_a_loader_goes_on_at_the_next_row(kinds, num_workers, tars):
    def make():
        sources = [tars if kind == "tars" else table(5, 100) for kind in kinds]
        return Stream(sources, seed=3, buffer_size=7).loader(4, keys, num_workers=num_workers)

    whole = take(make(), 24)
    for stop in (0, 1, 5, 12, 17):  # The stops are in the first block, after it, and in later passes.
        killed = make()
        assert take(killed, stop) == whole[:stop]
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(killed.state_dict())))
        assert take(resumed, 6) == whole[stop : stop + 6]


def test_weights_are_shares_of_the_rows():
    stream = Stream([table(50), table(8, 100), table(30, 200)], weights=[1, 2, 5], seed=0)
    texts = [int(row["text"]) // 100 for row in itertools.islice(stream, 4000)]
    assert [texts.count(i) / 4000 for i in range(3)] == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.03)
    rows = keys(itertools.islice(stream, 4000))
    assert len(set(rows)) == 4000, "a row that comes again comes in another pass, with other crops"


def test_too_few_shards_are_refused_at_the_start(tars):
    with pytest.raises(
        ValueError,
        match=r"Source 1 has 4 shard\(s\), and 2 process\(es\) with 3 worker\(s\) each are 6 readers"
        r".*dataloader_num_workers` to 2",
    ):
        Stream([table(), tars]).loader(4, keys, world_size=2, num_workers=3)


def test_a_reader_without_any_row_ends_the_run(tmp_path):
    write_tars(tmp_path, (2, 0, 2, 0))
    source = load_image_text("webdataset", data_files=str(tmp_path / "*.tar"), streaming=True)
    read = Stream(source).sources[0]
    with pytest.raises(ValueError, match="found no row in any of its shards.*dataloader_num_workers"):
        for reader in range(4):
            take((row for _, row in read.read(reader, 4, (0, 0, 0))), 9)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"weights": [1, 2]}, r"`weights=\[1, 2\]` do not fit 1 source.*Pass"),
        ({"weights": [0]}, r"`weights=\[0\]`.*above 0"),
        ({"buffer_size": 0}, "`buffer_size=0` holds no row.*at least 1"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        Stream(table(), **options)


def test_a_state_of_other_readers_is_refused():
    state = Stream(table()).loader(4, keys).state_dict()
    with pytest.raises(ValueError, match=r"'num_workers': 0.*'num_workers': 2.*Use as many"):
        Stream(table()).loader(4, keys, num_workers=2).load_state_dict(state)


# ---- Keyed chance ----


def test_uniforms_of_a_row_are_uniform_and_depend_on_each_key():
    numbers = torch.tensor([row_uniforms(0, epoch, index) for epoch in range(3) for index in range(1000)])
    assert numbers.shape == (3000, UNIFORMS_PER_ROW) and 0 <= numbers.min() and numbers.max() < 1
    assert torch.allclose(numbers.mean(0), torch.tensor(0.5), atol=0.025)
    assert torch.allclose(numbers.var(0), torch.tensor(1 / 12), atol=0.008)
    correlation = torch.corrcoef(numbers.T) - torch.eye(UNIFORMS_PER_ROW)
    assert correlation.abs().max() < 0.09
    assert len(numbers.unique(dim=0)) == 3000
    assert row_uniforms(0, 0, 5) == row_uniforms(0, 0, 5) != row_uniforms(1, 0, 5)


def test_uniforms_are_those_of_the_generator_as_published():
    # Random123 has a known answer for Philox4x64-10 with counter and key 0.
    # NumPy returns it from the counter before.
    first = np.random.Philox(key=[0, 0], counter=[2**64 - 1] * 4).random_raw(4)
    assert [hex(int(word)) for word in first] == [
        "0x16554d9eca36314c",
        "0xdb20fe9d672d0fdc",
        "0xd7e772cee186176b",
        "0x7e68b68aec7ba23b",
    ]
    word = np.random.Philox(key=[3, 4], counter=[0, 0, 0, 5]).random_raw(1)[0]
    assert row_uniforms(3, 4, 5)[0] == (int(word) >> 11) / 2**53


def test_order_is_a_permutation_and_another_in_each_epoch():
    orders = [order(0, epoch, 100).tolist() for epoch in range(3)]
    assert all(sorted(o) == list(range(100)) for o in orders) and len({tuple(o) for o in orders}) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_crops_do_not_depend_on_workers_batches_or_ranks(num_workers, monkeypatch):
    data = load_image_text("shapes", max_samples=24)
    data = data.map(lambda row: {"text": list("abcdef")})

    def batches(batch_size, workers, order):
        torch.manual_seed(batch_size)
        collator = CLIPDataCollator(processor(), crop_scale=(0.3, 1), flip=0.5, seed=7)
        collator.epoch = 2
        loader = torch.utils.data.DataLoader(data.select(order), batch_size, collate_fn=collator, num_workers=workers)
        parts = list(loader)
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    expected = batches(24, 0, range(24))
    monkeypatch.setenv("RANK", "1")
    backwards = batches(4, num_workers, range(23, -1, -1))
    for key, value in expected.items():
        assert torch.equal(backwards[key].flip(0), value), key


def test_the_next_epoch_and_another_seed_crop_otherwise():
    rows = list(load_image_text("shapes", max_samples=4))

    def crops(epoch, seed):
        collator = CLIPDataCollator(processor(), crop_scale=(0.3, 1), seed=seed)
        collator.epoch = epoch
        return collator(rows)["pixel_values"]

    assert torch.equal(crops(1, 0), crops(1, 0))
    assert not torch.equal(crops(1, 0), crops(0, 0)) and not torch.equal(crops(1, 0), crops(1, 1))
    collator = CLIPDataCollator(processor(), crop_scale=(0.3, 1))
    assert torch.equal(collator([row | {"__epoch__": 1} for row in rows])["pixel_values"], crops(1, 0))
