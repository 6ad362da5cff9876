"""Damaged tars, images and captions: the run goes on, and the counts are exact."""

import bz2
import gzip
import io
import itertools
import lzma
import random
import struct
import tarfile
import tracemalloc
import zlib
from collections import defaultdict
from functools import partial

import datasets
import numpy as np
import pytest
from clip_processor import processor
from PIL import Image

from hf_clip_kd.data import BrokenImageError, CLIPDataCollator, Stream, decode_image, load_image_text
from hf_clip_kd.data.reading.tars import ERROR, read_tar

SAMPLES = 5


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def members(start=0):
    """(name, contents) of a good tar."""
    return [
        member
        for i in range(start, start + SAMPLES)
        for member in ((f"{i:06d}.png", png(i)), (f"{i:06d}.txt", f"caption {i}".encode()))
    ]


def pack(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def bomb(width, height, chunks=b""):
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def text_bomb():
    packed = b"Comment\0\0" + zlib.compress(bytes(2**26), 9)
    return bomb(
        8, 8, struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    )


TEXT_BOMB = text_bomb()

# Arguments of each: the files of a good tar, and a random generator.
# Results of each: the bytes of a bad tar, the number of its rows, and the number of good ones.


def cut(files, rng):
    data = pack(files)
    length = rng.randrange(len(data) - tarfile.RECORDSIZE)
    starts = [0, *itertools.accumulate(512 + -(-len(contents) // 512) * 512 for _, contents in files)]
    # A sample is complete if the next header is complete. The header at the end is a block of zeros.
    good = sum(length >= start + 512 for start in starts[2::2])
    whole = length >= starts[-1] + 512
    return data[:length], good + (not whole), good


def damaged_header(files, rng):
    data, member = bytearray(pack(files)), rng.randrange(len(files))
    start = sum(512 + -(-len(contents) // 512) * 512 for _, contents in files[:member])
    data[start + rng.randrange(100)] ^= 1 << rng.randrange(8)
    good = max(0, (member - 1) // 2)  # the sample before may go on there, and is not counted as whole
    return bytes(data), good + 1, good


def other_bytes(files, rng):
    return bytes(rng.randrange(256) for _ in range(rng.choice([1, 100, 511, 512, 5000]))), 1, 0


def no_bytes(files, rng):
    return b"", 1, 0


def missing_member(files, rng):
    files = list(files)
    del files[rng.randrange(len(files))]
    return pack(files), SAMPLES, SAMPLES - 1


def doubled_member(files, rng):
    member = rng.randrange(len(files))
    return pack([*files[: member + 1], files[member], *files[member + 1 :]]), SAMPLES, SAMPLES - 1


def bad_caption(files, rng):
    texts = [b"", b" \n", b"\xff\xfe caf\xe9", b"caf\xe9", b"x" * 100_000, b"word " * 20_000, b"\x80"]
    return replaced(files, 2 * rng.randrange(SAMPLES) + 1, rng.choice(texts)), SAMPLES, SAMPLES - 1


def bad_image(files, rng):
    images = [
        b"",
        b"not a picture",
        bytes(200),
        png(0)[: rng.randrange(60)],
        bomb(50_000, 50_000),
        bomb(9_000, 9_000),
        bomb(1, 65_000),
        TEXT_BOMB,
        gzip.compress(png(0)),
    ]
    return replaced(files, 2 * rng.randrange(SAMPLES), rng.choice(images)), SAMPLES, SAMPLES - 1


def flipped_image(files, rng):
    member = 2 * rng.randrange(SAMPLES)
    data = bytearray(files[member][1])
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    try:
        decode_image(bytes(data))
        good = SAMPLES  # some damage only shows, or not even that
    except BrokenImageError:
        good = SAMPLES - 1
    return replaced(files, member, bytes(data)), SAMPLES, good


def replaced(files, member, data):
    return pack([(name, data if i == member else old) for i, (name, old) in enumerate(files)])


MUTATIONS = {
    cut: 150,
    damaged_header: 80,
    other_bytes: 20,
    no_bytes: 2,
    missing_member: 50,
    doubled_member: 30,
    bad_caption: 70,
    bad_image: 80,
    flipped_image: 80,
}


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    """A folder of 562 damaged tars, and of each the (rows, good rows) that it must give."""
    folder, rng, expected = tmp_path_factory.mktemp("mutants"), random.Random(0), {}
    for mutate, count in MUTATIONS.items():
        for _ in range(count):
            path = folder / f"{len(expected):04d}-{mutate.__name__}.tar"
            data, rows, good = mutate(members(SAMPLES * len(expected)), rng)
            path.write_bytes(data)
            expected[str(path)] = rows, good
    return folder, expected


def test_every_fault_is_counted_and_stops_nothing(mutants):
    folder, expected = mutants
    assert len(expected) >= 500
    rows = defaultdict(list)
    for row in load_image_text("webdataset", data_files=str(folder / "*.tar"), streaming=True):
        rows[row["__url__"]].append(row)
    assert rows.keys() == expected.keys()
    collator = CLIPDataCollator(processor(), max_broken_fraction=1.0)
    for path, (count, good) in expected.items():
        before = collator.broken.broken
        collator(rows[path])
        assert (len(rows[path]), len(rows[path]) - (collator.broken.broken - before)) == (count, good), path


def test_a_stream_with_workers_counts_alike(mutants):
    tars = dict(list(mutants[1].items())[::5])  # some of each kind
    source = load_image_text("webdataset", data_files=list(tars), streaming=True)
    total, good = (sum(numbers) for numbers in zip(*tars.values(), strict=True))
    collator = CLIPDataCollator(processor(), max_broken_fraction=1.0)
    first_pass = []

    def collate(rows):
        if kept := [row for row in rows if row["__epoch__"] == 0]:
            collator(kept)
        return [row["__index__"] for row in kept]

    loader = Stream(source, buffer_size=10).loader(8, collate, num_workers=2, timeout=60)
    for batch in itertools.islice(loader, total // 4):  # twice as many as one pass takes
        first_pass += batch
    assert len(set(first_pass)) == total
    assert (collator.broken.seen, collator.broken.broken) == (total, total - good)
    named = "\n".join(collator.broken.names)
    assert "the tar is damaged after" in named and ".tar (" in named


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("000001.txt", b"caf\xe9", "'000001.txt' cannot be read .*UnicodeDecodeError"),
        ("000001.txt", b"", "no caption"),
        ("000001.txt", b"x" * 100_000, "the caption has 100,000 characters: more than 10,000"),
        ("000001.png", bomb(9_000, 9_000), "9000 x 9000 pixels: more than"),
        ("000001.png", bomb(50_000, 50_000), "DecompressionBombError"),
        ("000001.png", TEXT_BOMB, "ValueError|too large"),
    ],
)
def test_a_fault_is_named_with_its_reason(name, change, reason, tmp_path, caplog):
    (tmp_path / "a.tar").write_bytes(pack([(n, change if n == name else data) for n, data in members()]))
    collator = CLIPDataCollator(processor())
    batch = collator(list(load_image_text(str(tmp_path / "a.tar"), streaming=True)))
    assert len(batch["pixel_values"]) == SAMPLES - 1
    (line,) = collator.broken.names
    assert line.startswith("000001.") and line in caplog.text
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(line)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_torn_tar_is_one_row_that_says_so(streaming, tmp_path):
    data = pack(members())
    (tmp_path / "0.tar").write_bytes(data[: len(data) // 2])
    (tmp_path / "1.tar").write_bytes(pack(members(100)))
    rows = list(load_image_text("webdataset", data_files=str(tmp_path / "*.tar"), streaming=streaming))
    errors = [row for row in rows if row[ERROR]]
    assert [row["text"] for row in rows if not row[ERROR]][-SAMPLES:] == [f"caption {i}" for i in range(100, 105)]
    assert len(errors) == 1 and errors[0]["__key__"].endswith("0.tar")
    count = len(rows) - 1 - SAMPLES
    assert errors[0][ERROR].startswith(f"the tar is damaged after {count} samples (ReadError: ")


def test_a_file_too_large_for_a_caption_is_passed_over(monkeypatch):
    monkeypatch.setattr("hf_clip_kd.data.reading.tars.MAX_MEMBER", 10_000)
    rows = list(read_tar(io.BytesIO(replaced(members(), 3, bytes(10_001))), "a.tar"))
    assert [row[ERROR] for row in rows].count(None) == SAMPLES - 1 == len(rows) - 1
    size = 10_001 + 2 * 512 + len(members()[2][1])
    assert rows[1][ERROR] == f"its files up to '000001.txt' have {size:,} bytes: more than 10,000"
    assert rows[1].keys() == {"__key__", "__url__", ERROR}


# Preset 0 has the smallest dictionary, which is memory, too.
@pytest.mark.parametrize("pack_with", [gzip.compress, bz2.compress, partial(lzma.compress, preset=0)])
@pytest.mark.parametrize("size", [2**18, 0])
def test_many_files_of_a_sample_fill_no_memory(size, pack_with, monkeypatch):
    """Files and their names take no more than the limit of a sample, however many there are and well packed."""
    monkeypatch.setattr("hf_clip_kd.data.reading.tars.MAX_MEMBER", 2**20)
    packed = pack_with(pack([*((f"1.x{i}", bytes(size)) for i in range(50 if size else 5_000)), *members()]))
    assert len(packed) < 2**18
    tracemalloc.start()
    rows = list(read_tar(io.BytesIO(packed), "a.tar"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.5 * 2**20
    assert [row[ERROR] is None for row in rows] == [False] + [True] * SAMPLES and "1.x" in rows[0][ERROR]


@pytest.mark.parametrize("ending", ["npz", "pth"])
def test_a_zip_in_a_tar_is_not_unpacked(ending, tmp_path):
    """A zip bomb of 60 kB unpacks to 64 MB. The row has its bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(2**26, dtype=np.uint8))
    data = buffer.getvalue()
    (tmp_path / "a.tar").write_bytes(pack([*members(), ("1.png", png(0)), ("1.txt", b"red"), (f"1.{ending}", data)]))
    tracemalloc.start()
    rows = list(load_image_text(str(tmp_path / "a.tar"), streaming=True))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows[-1][ending] == data and most < 2**25


def test_an_object_of_many_parts_costs_its_row():
    (row,) = read_tar(io.BytesIO(pack([("1.json", b"[" + b"[]," * 2**21 + b"[]]")])), "a.tar")
    assert row["json"] is None and row[ERROR] == "'1.json' has 6,291,460 bytes: more than 4,194,304"


@pytest.mark.parametrize("size", [2**33, 2**60])
def test_a_header_that_claims_too_much_is_damage(size):
    info = tarfile.TarInfo("000001.txt")
    info.size = size
    (row,) = read_tar(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)), "a.tar")
    assert "damaged after 0 samples" in row[ERROR]


def test_a_whole_tar_gives_what_datasets_gives(tmp_path):
    (tmp_path / "a.tar").write_bytes(pack([*members(), ("notes", b"no extension"), ("._000.txt", b"hidden")]))
    theirs = list(datasets.load_dataset("webdataset", data_files=str(tmp_path / "a.tar"), split="train"))
    with open(tmp_path / "a.tar", "rb") as file:
        ours = list(read_tar(file, "a.tar"))
    assert [row["__key__"] for row in ours] == [row["__key__"] for row in theirs]
    assert [row["txt"] for row in ours] == [row["txt"] for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert np.array_equal(np.asarray(decode_image(row["png"])), np.asarray(other["png"]))


def test_a_torn_shard_of_another_kind_is_one_row(tmp_path):
    for i in range(3):
        rows = [{"image": {"bytes": png(4 * i + j), "path": None}, "text": str(4 * i + j)} for j in range(4)]
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"{i}.parquet")
    (tmp_path / "1.parquet").write_bytes(b"PAR1 and nothing else")
    source = load_image_text("parquet", data_files=str(tmp_path / "*.parquet"), streaming=True)
    rows = list(itertools.takewhile(lambda row: row["__epoch__"] == 0, Stream(source, buffer_size=1)))
    assert sorted(row["text"] for row in rows if not row.get(ERROR)) == sorted(map(str, [0, 1, 2, 3, 8, 9, 10, 11]))
    (bad,) = [row for row in rows if row.get(ERROR)]
    assert bad["__key__"] == "shard 1 of 3" and "the shard is damaged after 0 rows" in bad[ERROR]
