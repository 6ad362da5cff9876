import csv
import io
import json
import tarfile

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_clip_kd.data import decode_image, load_image_text

CAPTIONS = ["a red square", "NA", "7", 'he said "hi"']


@pytest.fixture
def folder(tmp_path):
    """Four pictures of one grey each: picture i has the value 10 * i."""
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        grey(i).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path


def grey(i):
    return Image.new("RGB", (8, 8), (10 * i,) * 3)


def png(i):
    buffer = io.BytesIO()
    grey(i).save(buffer, "PNG")
    return buffer.getvalue()


def write_table(path, header, rows, delimiter=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return str(path)


def write_tar(path, samples):
    with tarfile.open(path, "w") as archive:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def contents(dataset):
    """(grey value, text) of every row; also checks that nothing was decoded on the way."""
    rows = list(dataset)
    assert all(isinstance(row["image"], dict) for row in rows)
    return [(np.asarray(decode_image(row["image"]))[0, 0, 0] // 10, row["text"]) for row in rows]


EXPECTED = list(enumerate(CAPTIONS))


@pytest.mark.parametrize("name, delimiter", [("pairs.csv", ","), ("pairs.tsv", "\t"), ("open_clip.csv", "\t")])
@pytest.mark.parametrize("streaming", [False, True])
def test_csv_as_open_clip_writes_it(folder, name, delimiter, streaming):
    rows = [(f"pictures/{i}.png", text) for i, text in EXPECTED]
    path = write_table(folder / name, ("filepath", "title"), rows, delimiter)
    assert contents(load_image_text(path, streaming=streaming)) == EXPECTED
    assert contents(load_image_text(path, image_column="filepath", text_column="title", max_samples=2)) == EXPECTED[:2]
    assert contents(load_image_text("csv", data_files=[path], split="validation", streaming=streaming)) == EXPECTED
    assert contents(load_image_text(str(folder), data_files=name, split="train[:50%]")) == EXPECTED[:2]


def test_csv_paths_absolute_upwards_and_from_the_working_directory(folder, monkeypatch):
    (folder / "lists").mkdir()
    for start in (f"{folder}/", "../"):
        path = write_table(
            folder / "lists" / "a.csv", ("filepath", "title"), [(f"{start}pictures/{i}.png", t) for i, t in EXPECTED]
        )
        assert contents(load_image_text(path)) == EXPECTED
    path = write_table(
        folder / "lists" / "b.csv", ("filepath", "title"), [(f"pictures/{i}.png", t) for i, t in EXPECTED]
    )
    monkeypatch.chdir(folder)
    assert contents(load_image_text(path)) == EXPECTED


def test_csv_of_only_digits_and_odd_bytes(folder):
    path = write_table(
        folder / "a.csv",
        ("filepath", "title"),
        [("pictures/0.png", "3"), ("pictures/1.png", "caf\u00e9")],
        encoding="latin1",
    )
    assert contents(load_image_text(path)) == [(0, "3"), (1, "caf\ufffd")]


@pytest.mark.parametrize("streaming", [False, True])
def test_imagefolder_with_metadata(folder, streaming):
    lines = [{"file_name": f"{i}.png", "text": text} for i, text in EXPECTED]
    (folder / "pictures" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = load_image_text("imagefolder", data_dir=str(folder / "pictures"), streaming=streaming)
    assert sorted(contents(dataset)) == EXPECTED
    assert sorted(contents(load_image_text(str(folder / "pictures")))) == EXPECTED


def test_imagefolder_with_several_captions(folder):
    lines = [{"file_name": f"{i}.png", "captions": [text, text + "!"]} for i, text in EXPECTED]
    (folder / "pictures" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = load_image_text("imagefolder", data_dir=str(folder / "pictures"), text_column="captions")
    assert sorted(contents(dataset)) == [(i, [text, text + "!"]) for i, text in EXPECTED]


@pytest.mark.parametrize("streaming", [False, True])
def test_class_folders_become_captions(tmp_path, streaming):
    for i, name in enumerate(["great_dane", "cat"]):
        (tmp_path / "train" / name).mkdir(parents=True)
        grey(i).save(tmp_path / "train" / name / "x.png")
    load = {"data_dir": str(tmp_path), "text_column": "label", "streaming": streaming}
    assert sorted(contents(load_image_text("imagefolder", **load))) == [
        (0, "a photo of a great dane."),
        (1, "a photo of a cat."),
    ]
    dataset = load_image_text("imagefolder", label_template="{}, drawn", **load)
    assert {text for _, text in contents(dataset)} == {"great dane, drawn", "cat, drawn"}
    assert isinstance(dataset.features["label"], datasets.ClassLabel)
    with pytest.raises(ValueError, match=r"text_column='text'.*\['image', 'label'\].*text_column='label'"):
        load_image_text("imagefolder", data_dir=str(tmp_path))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["txt", "json"])
def test_webdataset_tars(tmp_path, kind, streaming):
    for shard in range(2):
        samples = []
        for i in (2 * shard, 2 * shard + 1):
            text = CAPTIONS[i].encode() if kind == "txt" else json.dumps({"caption": CAPTIONS[i], "w": 8}).encode()
            samples += [(f"{i:05d}.png", png(i)), (f"{i:05d}.{kind}", text)]
        write_tar(tmp_path / f"s-{shard:03d}.tar", samples)
    files = str(tmp_path / "s-{000..001}.tar")
    assert contents(load_image_text("webdataset", data_files=files, streaming=streaming)) == EXPECTED
    assert contents(load_image_text(str(tmp_path / "s-000.tar"), streaming=streaming)) == EXPECTED[:2]
    assert sorted(contents(load_image_text(str(tmp_path), data_files="*.tar", streaming=streaming))) == EXPECTED


def test_parquet_with_images_structs_bytes_or_paths(folder):
    structs = [{"bytes": png(i), "path": None} for i in range(4)]
    columns = {
        "images": datasets.Dataset.from_dict(
            {"image": structs, "text": CAPTIONS},
            features=datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}),
        ),
        "structs": datasets.Dataset.from_dict({"image": structs, "text": CAPTIONS}),
        "bytes": datasets.Dataset.from_dict({"image": [png(i) for i in range(4)], "text": CAPTIONS}),
        "paths": datasets.Dataset.from_dict({"image": [f"pictures/{i}.png" for i in range(4)], "text": CAPTIONS}),
    }
    for name, dataset in columns.items():
        dataset.to_parquet(folder / f"{name}.parquet")
        assert contents(load_image_text(str(folder / f"{name}.parquet"))) == EXPECTED, name
        dataset = load_image_text("parquet", data_files=str(folder / f"{name}.parquet"), streaming=True)
        assert contents(dataset) == EXPECTED, name


def test_numbers_become_captions(folder):
    data = datasets.Dataset.from_dict({"image": [png(3)], "digit": [3], "text": ["other"]})
    data.to_parquet(folder / "a.parquet")
    dataset = load_image_text(str(folder / "a.parquet"), text_column="digit")
    assert contents(dataset) == [(3, "3")]


@pytest.mark.parametrize("streaming", [False, True])
def test_broken_pictures_are_left_to_the_collator(tmp_path, streaming):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "dog").mkdir()
    (tmp_path / "train" / "cat" / "bad.png").write_bytes(png(1)[:40])
    grey(2).save(tmp_path / "train" / "dog" / "good.png")
    dataset = load_image_text("imagefolder", data_dir=str(tmp_path), text_column="label", streaming=streaming)
    assert [row["text"] for row in dataset] == ["a photo of a cat.", "a photo of a dog."]
    assert next(iter(dataset))["image"]["path"].endswith("bad.png")


@pytest.mark.parametrize("streaming", [False, True])
def test_save_to_disk(tmp_path, streaming):
    data = datasets.Dataset.from_dict({"jpg": [png(i) for i in range(4)], "caption": CAPTIONS})
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data.take(2)}).save_to_disk(tmp_path / "splits")
    assert contents(load_image_text(str(tmp_path / "one"), streaming=streaming)) == EXPECTED
    assert contents(load_image_text(str(tmp_path / "splits"), split="test", streaming=streaming)) == EXPECTED[:2]
    with pytest.raises(ValueError, match=r"split='dev'.*\['train', 'test'\].*split='train'"):
        load_image_text(str(tmp_path / "splits"), split="dev")


def test_shapes():
    dataset = load_image_text("shapes", split="validation", max_samples=3)
    assert [decode_image(row["image"]).size for row in dataset] == [(32, 32)] * 3
    assert all(isinstance(row["text"], str) for row in dataset)


def test_shapes_with_generated_captions():
    dataset = load_image_text("shapes", max_samples=3, synthetic_text_column="synthetic_text")
    assert dataset.column_names == ["image", "text", "synthetic_text", "__index__"]
    assert dataset["text"][:] == load_image_text("shapes", max_samples=3)["text"][:]
    with pytest.raises(
        ValueError, match=r"synthetic_text_column='other'.*'shapes'.*synthetic_text_column='synthetic_text'"
    ):
        load_image_text("shapes", synthetic_text_column="other")


@pytest.mark.parametrize("streaming", [False, True])
def test_generated_captions(folder, streaming):
    rows = [(f"pictures/{i}.png", text, f"generated {i}") for i, text in EXPECTED]
    path = write_table(folder / "a.csv", ("filepath", "title", "coca"), rows)
    dataset = load_image_text(path, synthetic_text_column="coca", streaming=streaming)
    assert contents(dataset) == EXPECTED
    assert [row["synthetic_text"] for row in dataset] == [f"generated {i}" for i in range(4)]
    assert "synthetic_text" not in load_image_text(path, streaming=streaming).features


@pytest.mark.parametrize("streaming", [False, True])
def test_generated_captions_may_be_lists_and_stand_anywhere(folder, streaming):
    lists = [[f"one {i}", f"two {i}"] for i in range(4)]
    pictures = [f"pictures/{i}.png" for i in range(4)]
    # A column `text` of generated captions, beside the alt texts; then the same nested in a struct.
    data = datasets.Dataset.from_dict({"image": pictures, "text": lists, "alt": CAPTIONS})
    data.to_parquet(folder / "a.parquet")
    columns = {"text_column": "alt", "synthetic_text_column": "text"}
    dataset = load_image_text("parquet", data_files=str(folder / "a.parquet"), streaming=streaming, **columns)
    assert [(row["text"], row["synthetic_text"]) for row in dataset] == list(zip(CAPTIONS, lists, strict=True))
    nested = [{"coca": texts, "caption": text} for texts, text in zip(lists, CAPTIONS, strict=True)]
    datasets.Dataset.from_dict({"image": pictures, "json": nested}).to_parquet(folder / "b.parquet")
    columns = {"synthetic_text_column": "json.coca"}
    dataset = load_image_text("parquet", data_files=str(folder / "b.parquet"), streaming=streaming, **columns)
    assert [(row["text"], row["synthetic_text"]) for row in dataset] == list(zip(CAPTIONS, lists, strict=True))


def test_generated_captions_need_a_column_of_their_own(folder):
    path = write_table(folder / "a.csv", ("filepath", "title"), [("pictures/0.png", "x")])
    for name in ("title", "filepath"):
        with pytest.raises(
            ValueError,
            match=rf"`synthetic_text_column='{name}'` is also the column of the images or captions"
            r".*\['filepath', 'title'\]",
        ):
            load_image_text(path, synthetic_text_column=name)


@pytest.mark.parametrize(
    "argument, value",
    [("image_column", "picture"), ("text_column", "words"), ("synthetic_text_column", "synthetic_text")],
)
def test_wrong_columns(folder, argument, value):
    path = write_table(folder / "a.csv", ("filepath", "title"), [("pictures/0.png", "x")])
    with pytest.raises(
        ValueError, match=rf"In .*, `{argument}='{value}'` is not a column.*\['filepath', 'title'\].*`{argument}="
    ):
        load_image_text(path, **{argument: value})


def test_columns_that_hold_something_else(folder):
    datasets.Dataset.from_dict({"image": [png(0)], "text": [[[1]]], "title": [1.5]}).to_parquet(folder / "a.parquet")
    with pytest.raises(ValueError, match=r"`text_column='text'` holds List.*strings.*`text_column=\.\.\.`"):
        load_image_text(str(folder / "a.parquet"))
    with pytest.raises(ValueError, match=r"`image_column='title'` holds Value.*images.*`image_column=\.\.\.`"):
        load_image_text(str(folder / "a.parquet"), image_column="title")


def empty_csv(folder):
    return {"dataset_name": write_table(folder / "empty.csv", ("filepath", "title"), [])}


def zero_bytes(folder):
    (folder / "zero.csv").touch()
    return {"dataset_name": str(folder / "zero.csv")}


def empty_folder(folder):
    (folder / "nothing").mkdir()
    return {"dataset_name": "imagefolder", "data_dir": str(folder / "nothing")}


def torn_tar(folder):
    path = write_tar(
        folder / "torn.tar", [("0.png", png(0)), ("0.txt", b"x"), ("1.png", png(1) * 90), ("1.txt", b"y")]
    )
    data = (folder / "torn.tar").read_bytes()
    (folder / "torn.tar").write_bytes(data[:600])  # The cut is in the first picture: no sample is left.
    return {"dataset_name": path}


def torn_parquet(folder):
    (folder / "torn.parquet").write_bytes(b"PAR1 and nothing else")
    return {"dataset_name": str(folder / "torn.parquet")}


def no_split(folder):
    return {"dataset_name": "imagefolder", "data_dir": str(folder), "split": "validation", "text_column": "label"}


@pytest.mark.parametrize(
    "arguments, match",
    [
        (empty_csv, r"empty.csv' \(split 'train'\) is empty: .*at least one image.*data_files="),
        (zero_bytes, r"could not be loaded.*(Repair|Correct)"),
        (empty_folder, r"(could not be loaded|is empty).*data_dir="),
        (torn_tar, r"torn\.tar.*could not be loaded.*Repair or leave out the file"),
        (torn_parquet, r"torn\.parquet.*could not be loaded.*Repair or leave out the file"),
        (no_split, r"split 'validation'.*could not be loaded: .*train.*`split="),
        (
            lambda folder: {"dataset_name": "nobody/nothing"},
            r"'nobody/nothing'.*doesn't exist on the Hub.*Correct the name",
        ),
        (lambda folder: {"dataset_name": "no/such/folder"}, r"'no/such/folder'.*must be an id on the Hub.*data_dir="),
        (
            lambda folder: {"dataset_name": "imagefolder", "data_dir": "no/such"},
            r"data_dir='no/such'` is not a folder",
        ),
        (
            lambda folder: {"dataset_name": "csv", "data_files": "no*.csv"},
            r"data_files='no\*\.csv'` names no file.*Pass",
        ),
        (lambda folder: {"dataset_name": str(folder / "gone.csv")}, r"gone\.csv'` names no file"),
        (lambda folder: {"dataset_name": "imagefolder"}, r"'imagefolder'` alone names no data.*data_dir"),
    ],
    ids="empty-csv zero-bytes empty-folder torn-tar torn-parquet no-split unknown no-folder no-data-dir no-match "
    "no-file no-arguments".split(),
)
def test_what_cannot_be_loaded_says_so_in_one_line(folder, arguments, match):
    with pytest.raises(ValueError, match=match) as info:
        load_image_text(**arguments(folder))
    assert "\n" not in str(info.value)


def test_a_hub_out_of_reach_says_how_to_do_without(monkeypatch):
    for constant in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(constant, True)
    with pytest.raises(ValueError, match="'nobody/nothing'.*cannot reach the Hub.*hf download"):
        load_image_text("nobody/nothing")


def test_files_in_several_folders_with_relative_paths(folder):
    (folder / "b" / "pictures").mkdir(parents=True)
    grey(5).save(folder / "b" / "pictures" / "0.png")
    files = [
        write_table(place / "a.csv", ("filepath", "title"), [("pictures/0.png", "x")])
        for place in (folder, folder / "b")
    ]
    assert contents(load_image_text("csv", data_files=files)) == [(0, "x"), (5, "x")]


def test_a_missing_picture_is_met_by_the_collator_and_not_by_the_reader(folder):
    path = write_table(folder / "a.csv", ("filepath", "title"), [("pictures/0.png", "x"), ("pictures/gone.png", "y")])
    dataset = load_image_text(path)
    assert len(dataset) == 2 and dataset[1]["image"]["path"].endswith("pictures/gone.png")
