"""Image folders: splits by the names of sub-folders, and metadata as it stands in the file."""

import json
from pathlib import Path

import datasets
import pytest
from tar_files import png

from hf_clip_kd.data import load_image_text
from hf_clip_kd.data.reading.folders import split_patterns


def tree(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(1))
    return str(folder)


@pytest.mark.parametrize(
    "names, expected",
    [
        ("a.png steam-train.png test.png", {"train": ["**"]}),
        ("cat/a.png dog/test.png", {"train": ["**"]}),
        ("cat/a.png train/a.png dog/a.png", {"train": ["**"]}),
        ("apple/a.png pear/a.png test-tube/a.png", {"train": ["**"]}),
        ("train/cat/a.png", {"train": ["train/**"]}),
        ("train/a.png valid/a.png", {"train": ["train/**"], "validation": ["valid/**"]}),
        ("train/a.png dev/a.png eval/a.png", {"train": ["train/**"], "validation": ["dev/**"], "test": ["eval/**"]}),
        ("Train2017/a.png val2017/a.png", {"train": ["Train2017/**"], "validation": ["val2017/**"]}),
        ("test/test-tube/a.png", {"test": ["test/**"]}),
        (
            "images/train/a.png images/val/a.png notes/x.txt",
            {"train": ["images/train/**"], "validation": ["images/val/**"]},
        ),
        ("train/a.png test/a.png extra/a.png", {"train": ["train/**"], "test": ["test/**"]}),
        ("train/a.png val/a.png metadata.csv", {"train": ["**"]}),
        (".git/train/a.png cat/a.png", {"train": ["cat/**"]}),
    ],
)
def test_splits(tmp_path, names, expected):
    assert split_patterns(tree(tmp_path, *names.split())) == expected


def test_every_picture_counts_once(tmp_path):
    """Names that hold the name of a split hide nothing and repeat nothing."""
    classes = ["bus", "train", "high-speed train"]
    tree(tmp_path / "flat", *[f"{name}/test {i}.png" for name in classes for i in range(2)])
    tree(tmp_path / "split", "train/[a]/x.png", "train/train/x.png", "test/test tube/x.png", "test/[a]/y.png")
    data = load_image_text("imagefolder", data_dir=str(tmp_path / "flat"), text_column="label")
    assert len(data) == 6 and data.features["label"].names == sorted(classes)
    for split, count in (("train", 2), ("test", 2)):
        data = load_image_text(str(tmp_path / "split"), split=split, text_column="label")
        assert len(data) == count == len({row["image"]["path"] for row in data})
    with pytest.raises(ValueError, match="split 'validation'.*Should be one of"):
        load_image_text("imagefolder", data_dir=str(tmp_path / "split"), split="validation", text_column="label")


WORDS = ["None", "NA", "007", "2.50", "1e5", "False", 'a 6" train']


@pytest.mark.parametrize("streaming", [False, True])
def test_metadata_is_text(tmp_path, streaming):
    names = [f"steam train {i}.png" for i in range(len(WORDS))]
    tree(tmp_path, *names)
    lines = [f"{name},{word}" for name, word in zip(names, WORDS, strict=True)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,text", *lines]))
    for arguments in (("imagefolder", str(tmp_path)), (str(tmp_path), None)):
        data = load_image_text(arguments[0], data_dir=arguments[1], streaming=streaming)
        rows = [(row["image"], row["text"]) for row in data]
        paths = [{"bytes": None, "path": str(tmp_path / name)} for name in names]
        assert rows == list(zip(paths, WORDS, strict=True))


def test_metadata_of_each_split(tmp_path):
    for split in ("train", "valid"):
        tree(tmp_path / split, "0.png")
        line = json.dumps({"file_name": "0.png", "text": [split, 1], "width": 8})
        (tmp_path / split / "metadata.jsonl").write_text(line)
    data = load_image_text("imagefolder", data_dir=str(tmp_path), split="validation")
    assert data["text"][:] == [["valid", "1"]] and data["width"][:] == [8]


def test_a_card_that_lists_the_splits_is_followed(tmp_path):
    tree(tmp_path, "a/0.png", "b/0.png", "c/0.png")
    files = [{"split": "train", "path": "a/**"}, {"split": "test", "path": ["b/**", "c/**"]}]
    card = {"configs": [{"config_name": "default", "data_files": files}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    assert len(load_image_text(str(tmp_path), split="test", text_column="label")) == 2


def test_metadata_with_several_images_is_left_to_datasets(tmp_path):
    tree(tmp_path, "0.png", "1.png")
    (tmp_path / "metadata.csv").write_text("file_name,mask_file_name,text\n0.png,1.png,a\n")
    data = load_image_text("imagefolder", data_dir=str(tmp_path))
    assert data.features["mask"] == datasets.Image() and data["text"][:] == ["a"]


def test_tables_of_another_format_are_named(tmp_path, caplog):
    """`datasets` reads the commonest format of a folder alone."""
    tree(tmp_path, "a.png", "b.png", "c.png")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("image,text\na.png,a\n")
    (tmp_path / "three.jsonl").write_text('{"image": "b.png", "text": "b"}\n')
    with pytest.raises(ValueError, match="is not a column"):
        load_image_text(str(tmp_path))
    assert "read as pictures, without " in caplog.text and "three.jsonl" in caplog.text
    for picture in "abc":
        (tmp_path / f"{picture}.png").rename(tmp_path.parent / f"{picture}.png")
    caplog.clear()
    assert len(load_image_text(str(tmp_path))) == 2
    assert f"read as csv, without {tmp_path}/three.jsonl. Pass all files" in caplog.text
    caplog.clear()
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    assert load_image_text("csv", data_files=files)["text"] == ["a", "b", "a"] and not caplog.text
