"""Written sets: image folders, CSV, tars and an index, the same each time, and read by the loaders."""

import hashlib
import io
import json
import os
import tarfile

import pytest
from picture_packages import draw_with_stub, drawing, write_packages
from PIL import Image

from hf_clip_kd.data import load_image_text
from hf_clip_kd.data.pictures import Picture, collect, divide, write_sets
from hf_clip_kd.data.pictures import write as module
from hf_clip_kd.data.pictures.write import smaller

SETS = {
    "train": [
        Picture("clipart/a/b.png", "owl", ("owl", "owl, bird"), "public domain", drawing(size=(300, 200)), "animals"),
        Picture("noto/1F408.png", "cat", ("cat",), "OFL-1.1", drawing("blue", mode="P")),
        Picture("gcompris/x.webp", "café", ("café",), "GPL", drawing("green", kind="WEBP")),
    ],
    "style": [Picture("twemoji/2764.png", "train", ("train", "train, rail"), "CC-BY-4.0", drawing("pink"))],
    "photographs": [Picture("stamps/1.png", "tit", ("A blue tit.",), "GPL-2", drawing("gray"), photograph=True)],
}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_the_same_each_time_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 2)
    (tmp_path / "a/mine").mkdir(parents=True)
    (tmp_path / "a/mine/model.bin").write_bytes(b"m")
    write_sets(SETS, tmp_path / "a")
    (tmp_path / "a/train.json").write_bytes(b"{}")  # A set without classes has no such file.
    checksums = [write_sets(SETS, tmp_path / name) for name in ("a", "b")]
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second | {"mine/model.bin": b"m", "train.json": b"{}"} and checksums[0] == checksums[1]
    assert checksums[0] == hashlib.sha256(first["pictures.jsonl"]).hexdigest()
    assert sorted(second) == [
        "photographs-00000.tar",
        "photographs.csv",
        "photographs/test/metadata.jsonl",
        "photographs/test/stamps/1.png",
        "pictures.jsonl",
        "style-00000.tar",
        "style.csv",
        "style.json",
        "style/test/metadata.jsonl",
        "style/test/twemoji/2764.png",
        "train-00000.tar",
        "train-00001.tar",
        "train.csv",
        "train/clipart/a/b.png",
        "train/gcompris/x.webp",
        "train/metadata.jsonl",
        "train/noto/1F408.png",
    ]
    # Pictures are as they are in their packages.
    assert first["train/noto/1F408.png"] == SETS["train"][1].packaged
    # A later call removes what it does not write.
    write_sets({"train": SETS["train"][:1], "style": []}, tmp_path / "a")
    left = contents(tmp_path / "a")
    assert "train-00001.tar" not in left and "train/noto/1F408.png" not in left and "mine/model.bin" in left


NAMES = ["train", "style/mine.png", "category.json", "unseen.csv", "train-00000.tar", "style.tmp"]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_somebody_else_are_not_replaced(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "train-mine.tar").write_bytes(b"of another form")
    with pytest.raises(ValueError, match=f"holds '{name.partition('/')[0]}'.*no pictures.jsonl.*Name another"):
        write_sets(SETS, tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine" and len(contents(tmp_path)) == 2


@pytest.mark.parametrize("number", range(1, 10))
def test_a_kill_leaves_no_index_and_the_next_call_clears_up(number, tmp_path, monkeypatch):
    write_sets(SETS, tmp_path / "whole")
    replace, left = os.replace, iter(range(number))

    def killed(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(*args)

    write_sets({name: pictures[:1] for name, pictures in SETS.items()}, tmp_path / "sets")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_sets(SETS, tmp_path / "sets")
    assert not (tmp_path / "sets/pictures.jsonl").exists() and (tmp_path / "sets/pictures.jsonl.unfinished").exists()
    for torn in ("unseen.tmp/a.png", "category-00003.tmp", "train.csv.77.tmp", "pictures.jsonl.77.tmp"):
        (tmp_path / "sets" / torn).parent.mkdir(exist_ok=True)
        (tmp_path / "sets" / torn).write_bytes(b"half")
    write_sets(SETS, tmp_path / "sets")
    assert contents(tmp_path / "sets") == contents(tmp_path / "whole")


def test_the_checksum_is_of_the_packages_and_not_of_sizes(tmp_path):
    assert write_sets(SETS, tmp_path, max_side=16) == write_sets(SETS, tmp_path)
    changed = SETS | {"style": [Picture("twemoji/2764.png", "train", ("train",), "CC-BY-4.0", drawing("red"))]}
    assert write_sets(changed, tmp_path) != write_sets(SETS, tmp_path)


def test_index_has_every_fact(tmp_path):
    write_sets(SETS, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "pictures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {
        "image": "train/clipart/a/b.png",
        "set": "train",
        "captions": ["owl", "owl, bird"],
        "name": "owl",
        "category": "animals",
        "source": "clipart",
        "licence": "public domain",
        "photograph": False,
        "sha256": hashlib.sha256(SETS["train"][0].packaged).hexdigest(),
    }
    assert [row["image"] for row in rows if row["photograph"]] == ["photographs/test/stamps/1.png"]
    assert all((tmp_path / row["image"]).is_file() for row in rows)
    assert json.loads((tmp_path / "style.json").read_text()) == ["train"]


def test_tars_hold_picture_caption_and_facts(tmp_path):
    write_sets(SETS, tmp_path)
    with tarfile.open(tmp_path / "train-00000.tar") as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}
    assert [name.partition(".")[0] for name in files] == ["000000"] * 3 + ["000001"] * 3 + ["000002"] * 3
    captions = {json.loads(files[f"00000{i}.json"])["name"]: files[f"00000{i}.txt"].decode() for i in range(3)}
    assert captions == {"owl": "owl, bird", "cat": "cat", "café": "café"}
    assert SETS["train"][0].packaged in files.values()


def test_all_forms_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sets(SETS, tmp_path)
    folder = load_image_text("imagefolder", data_dir="train")
    assert sorted(folder["text"][:]) == [["café"], ["cat"], ["owl", "owl, bird"]]
    assert sorted(load_image_text("train.csv")["text"][:]) == ["café", "cat", "owl, bird"]
    assert load_image_text("style.csv", text_column="name")["text"][:] == ["train"]
    assert load_image_text("photographs.csv")["text"][:] == ["A blue tit."]
    tars = load_image_text("webdataset", data_files="train-*.tar")
    assert sorted(tars["text"][:]) == ["café", "cat", "owl, bird"]
    tars = load_image_text("webdataset", data_files="style-*.tar")
    assert tars["text"][:] == ["train, rail"]
    # A class called `train` is a class, and names of classes are a column.
    style = load_image_text("imagefolder", data_dir="style", split="test", text_column="name")
    assert style["text"][:] == ["train"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_smaller_pictures_keep_format_transparency_and_shape(mode):
    large = drawing("red", (300, 100), mode)
    with Image.open(io.BytesIO(smaller(large, 60))) as image:
        assert (image.size, image.format) == ((60, 20), "PNG")
        assert image.mode == ("RGBA" if mode == "P" else mode)
    with Image.open(io.BytesIO(smaller(drawing("red", (100, 300), kind="WEBP"), 60))) as image:
        assert (image.size, image.format) == ((20, 60), "WEBP")
    assert smaller(large, 300) == large


def test_giants_stay_as_they_are(monkeypatch):
    large = drawing("red", (300, 100))
    monkeypatch.setattr(module, "MAX_PIXELS", 29_999)
    assert smaller(large, 60) == large
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert smaller(large, 60) == large


def test_packages_to_sets(tmp_path, monkeypatch):
    draw_with_stub(monkeypatch)
    sets = divide(collect(write_packages(tmp_path / "packages")))
    checksum = write_sets(sets, tmp_path / "sets")
    again = divide(collect(write_packages(tmp_path / "again")))
    assert write_sets(again, tmp_path / "other") == checksum
    files = {name: {part.file for part in parts} for name, parts in sets.items()}
    assert not any(file.startswith("twemoji/") for file in files["train"])
    assert not {part.name for part in sets["train"]} & {part.name for part in sets["retrieval"] + sets["unseen"]}
    assert {"stamps/animals/birds/tit.png", "gcompris/explore_farm_animals/animals/cow.webp"} <= files["photographs"]
