import base64
import inspect
import io
import json
import os
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, List
from PIL import Image as PILImage

from hf_clip_kd.data import instruct
from hf_clip_kd.data.instruct import load_instruct, without_images
from hf_clip_kd.data.reading.images import decode_image
from hf_clip_kd.data.reading.parts import Part
from hf_clip_kd.recipe_io.foreign import ForeignFileError


def png(color="red"):
    file = io.BytesIO()
    PILImage.new("RGB", (4, 4), color).save(file, "PNG")
    return file.getvalue()


def talk(*turns):
    """LLaVA's list of turns; who speaks goes round."""
    return [{"from": ("human", "gpt")[i % 2], "value": turn} for i, turn in enumerate(turns)]


def written(folder, samples, name="llava.json"):
    (folder / name).write_text(
        json.dumps(samples) if name.endswith("json") else "".join(json.dumps(sample) + "\n" for sample in samples)
    )
    return str(folder / name)


LLAVA = [
    {"id": "a", "image": "coco/1.jpg", "conversations": talk("What is it?\n<image>", "A cat.", "Red?", "No.")},
    {"id": 7, "model": "x", "conversations": talk("Hello there", "Hi")},
    {"image": ["1.jpg", "2.jpg"], "conversations": talk("Compare <image> and <image>", "Same")},
    {"id": "d", "image": "3.jpg", "conversations": talk("What is it?", "A dog")},
    {"id": "e", "image": None, "conversations": [{"from": "gpt", "value": "Hi"}, *talk("Hello", "Yes")]},
    {
        "id": "f",
        "image": ["1.jpg", "2.jpg"],
        "conversations": [{"from": "system", "value": "S"}, *talk("Same?", "No")],
    },
]


@pytest.mark.parametrize("name", ["llava.json", "llava.jsonl"])
def test_llavas_own_files(tmp_path, name):
    rows = load_instruct(written(tmp_path, LLAVA, name))
    assert rows.column_names == ["id", "messages", "images", "num_words", "num_images"]
    assert rows["id"] == ["a", "7", "2", "d", "e", "f"]
    assert rows["num_images"] == [1, 0, 2, 1, 0, 2]
    said = [[(message["role"], message["content"]) for message in row] for row in rows["messages"]]
    assert said == [
        [("user", "<image>\nWhat is it?"), ("assistant", "A cat."), ("user", "Red?"), ("assistant", "No.")],
        [("user", "Hello there"), ("assistant", "Hi")],
        [("user", "Compare <image> and <image>"), ("assistant", "Same")],
        [("user", "<image>\nWhat is it?"), ("assistant", "A dog")],
        [("user", "Hello"), ("assistant", "Yes")],
        [("system", "S"), ("user", "<image>\n<image>\nSame?"), ("assistant", "No")],
    ]
    assert rows["num_words"] == [8, 3, 5, 6, 2, 5]
    assert rows[0]["images"] == [{"bytes": None, "path": str(tmp_path / "coco/1.jpg")}]
    assert rows[1]["images"] == []


def test_image_folder_max_samples_and_splits(tmp_path):
    file = written(tmp_path, LLAVA)
    (tmp_path / "pictures").mkdir()
    rows = load_instruct("json", data_files=file, image_folder=str(tmp_path / "pictures"), max_samples=2)
    assert len(rows) == 2 and rows[0]["images"][0]["path"] == str(tmp_path / "pictures/coco/1.jpg")
    assert load_instruct(file, split="validation[4:]")["id"] == ["e", "f"]
    assert load_instruct(file, split="train[:1]+train[4:]")["id"] == ["a", "e", "f"]
    assert load_instruct(file, split="train[:50%]", max_samples=2)["id"] == ["a", "7"]
    written(tmp_path, LLAVA[3:])  # a file that changed is read again
    assert load_instruct(file)["id"] == ["d", "e", "f"]


PARTS = [
    {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A cat"}]},
]
PLAIN = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat"}]


def test_messages_in_a_json_file_may_be_strings_or_parts(tmp_path):
    file = written(tmp_path, [{"messages": PARTS, "images": ["1.png"]}, {"messages": PLAIN, "images": []}], "m.jsonl")
    rows = load_instruct(file)
    assert [row[0]["content"] for row in rows["messages"]] == ["<image>\nWhat is it?", "What is it?"]
    assert rows["num_images"] == [1, 0]


URL = "data:image/png;base64," + base64.b64encode(png()).decode()


def test_paths_start_at_the_file_of_their_sample(tmp_path):
    turns = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.json").write_text(json.dumps([{"image": "x.png", "conversations": turns}]))
    data = load_instruct("json", data_files=[str(tmp_path / name / "s.json") for name in ("first", "second")])
    paths = [row["images"][0]["path"] for row in data]
    assert paths == [str(tmp_path / name / "x.png") for name in ("first", "second")]


@pytest.mark.parametrize(
    ("part", "image"),
    [
        ({"type": "image_url", "image_url": {"url": "a b.png"}}, "a b.png"),
        ({"type": "image_url", "image_url": "a b.png"}, "a b.png"),
        ({"type": "image_url", "image_url": {"url": "FOLDER/a%20b.png", "detail": "low"}}, "a b.png"),
        ({"type": "image", "image": "a b.png"}, "a b.png"),
        ({"type": "image", "path": "a b.png"}, "a b.png"),
        ({"image": "a b.png"}, "a b.png"),
        ({"type": "image_url", "image_url": {"url": URL}}, png()),
    ],
)
def test_a_part_may_hold_its_picture(tmp_path, part, image):
    part = json.loads(json.dumps(part).replace("FOLDER", f"file://{tmp_path}"))
    content = [part, {"type": "text", "text": "What is it?"}]
    (row,) = load_instruct(written(tmp_path, [{"messages": [{"role": "user", "content": content}]}]))
    assert row["messages"][0]["content"] == "<image>\nWhat is it?" and row["num_images"] == 1
    in_file = isinstance(image, bytes)
    assert row["images"] == [{"bytes": image if in_file else None, "path": None if in_file else f"{tmp_path}/{image}"}]


def user(*parts):
    return {"conversations": None, "messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (user({"type": "video", "video": "a.mp4"}), "has the part .* of the type 'video'. Content is"),
        (user({"type": "input_audio", "text": "x"}), "of the type 'input_audio'"),
        (user({"type": "image_url"}), "has the part .* without a picture"),
        (user({}), "of the type None"),
        (user("x"), "has the part 'x'"),
        (user({"type": "text", "text": ["x"]}), "a list .*not a text"),
        (user({"type": "image_url", "image_url": {"url": "https://a/b.png"}}), "is the address .*Download"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}), "is no base64"),
        (user({"type": "image", "image": "a.png"}) | {"image": "b.png"}, r"images \['b.png'\] in a field, and"),
        ({"messages": {"role": "user"}}, "which are no list"),
        ({"messages": [{"role": None, "content": "x"}]}, "has the role None"),
        ({"image": 5}, "image of the .*is not a path: 5"),
        ({"images": ["a.png", None]}, "image of the .*is not a path: .*None"),
        ({"conversations": [{"from": "human", "value": True}]}, "is true or false"),
        ({"conversations": talk("half \ud83d", "a")}, "half of a surrogate pair"),
    ],
)
def test_a_sample_of_another_form_is_named(tmp_path, sample, message):
    with pytest.raises(ForeignFileError, match="(?s)" + message) as raised:
        load_instruct(bad(tmp_path, **sample))
    assert "sample 0" in str(raised.value) and "llava.json" in str(raised.value)


def test_what_loses_nothing_is_read(tmp_path):
    samples = [
        {
            "image": {"path": "a.png", "bytes": None},
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": 3}],
        },
        {"messages": [{"role": "user", "content": {"type": "text", "text": 4}}, {"role": "assistant", "value": "x"}]},
        {"messages": [{"role": "user", "content": [{"text": "What?"}]}, {"role": "assistant", "content": None}]},
    ]
    rows = load_instruct(written(tmp_path, samples))
    said = [[message["content"] for message in row] for row in rows["messages"]]
    assert said == [["<image>\n?", "3"], ["4", "x"], ["What?", ""]]
    assert rows[0]["images"] == [{"bytes": None, "path": f"{tmp_path}/a.png"}]


def test_a_picture_in_a_message_needs_a_column(tmp_path):
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}]
    Dataset.from_dict({"messages": [messages], "id": ["x"]}).to_parquet(str(tmp_path / "m.parquet"))
    with pytest.raises(ForeignFileError, match=r"row 0 of the dataset \(id 'x'\) has images in its messages"):
        load_instruct(str(tmp_path / "m.parquet"))


CELL = {"bytes": png(), "path": "1.png"}


def test_a_column_of_pictures(tmp_path):
    data = Dataset.from_dict({"messages": [PLAIN] * 3, "image": [CELL, None, CELL], "id": [5, 6, 7]})
    data.cast_column("image", Image()).save_to_disk(str(tmp_path / "data"))
    rows = load_instruct(str(tmp_path / "data"))
    assert rows["id"] == ["5", "6", "7"] and rows["num_images"] == [1, 0, 1]
    assert rows["images"] == [[CELL], [], [CELL]]
    shown = "<image>\nWhat is it?"
    assert [row[0]["content"] for row in rows["messages"]] == [shown, "What is it?", shown]
    assert rows.features["images"] == List(Image(decode=False)), "nothing is decoded"


@pytest.mark.parametrize("messages", [PARTS, PLAIN])
def test_a_column_of_lists_of_pictures(tmp_path, messages):
    data = Dataset.from_dict({"messages": [messages] * 2, "images": [[CELL], [CELL, CELL]]})
    data.cast_column("images", List(Image())).to_parquet(str(tmp_path / "several.parquet"))
    rows = load_instruct(str(tmp_path / "several.parquet"))
    assert rows["images"] == [[CELL], [CELL, CELL]] and rows["id"] == ["0", "1"] and rows["num_images"] == [1, 2]
    assert rows[0]["messages"][0]["content"] == "<image>\nWhat is it?"
    assert rows.features["images"] == List(Image(decode=False)), "nothing is decoded"
    assert len(load_instruct(str(tmp_path / "several.parquet"), max_samples=1)) == 1


def write_paths(data, path):
    """Write rows as they are. `Dataset.to_parquet` would put the pictures into the file."""
    pq.write_table(data.data.table.cast(data.features.arrow_schema), path)


@pytest.mark.parametrize("several", [True, False])
def test_a_cell_may_hold_a_path_inside(tmp_path, several):
    """A relative path starts from the folder of the file, as in JSON. A picture in the data is not touched."""
    (tmp_path / "data").mkdir()
    cells = [{"bytes": None, "path": path} for path in ("a/1.png", str(tmp_path / "data/2.png"))] + [CELL, None]
    column = {"images": [[cell] if cell else [] for cell in cells]} if several else {"image": cells}
    kind = List(Image()) if several else Image()
    data = Dataset.from_dict({"messages": [PLAIN] * 4} | column).cast_column(*column, kind)
    write_paths(data, tmp_path / "data/p.parquet")

    def found(**arguments):
        return [
            [cell["path"] for cell in row]
            for row in load_instruct(str(tmp_path / "data/p.parquet"), **arguments)["images"]
        ]

    assert found() == [[str(tmp_path / "data/a/1.png")], [str(tmp_path / "data/2.png")], ["1.png"], []]
    assert found(image_folder=str(tmp_path))[0] == [str(tmp_path / "a/1.png")]
    with pytest.raises(ForeignFileError, match="lies outside"):
        found(image_folder=os.path.dirname(__file__))


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/home/me/private.png", "lies outside of .*image_folder="),
        ("../private.png", "lies outside of .*image_folder="),
        ("http://internal/x.png", "is an address.*nothing is downloaded.*Download"),
        ("zip://a.png::/home/me/private.zip", "is an address"),
        ("hf://datasets/me/private@main/a.png", "is an address"),
    ],
)
def test_a_cell_names_no_picture_elsewhere(tmp_path, path, message, several):
    cell = {"bytes": None, "path": path}
    column = {"images": [[CELL], [cell]]} if several else {"image": [CELL, cell]}
    data = Dataset.from_dict({"messages": [PLAIN] * 2} | column)
    data = data.cast_column(*column, List(Image()) if several else Image())
    write_paths(data, tmp_path / "p.parquet")
    with pytest.raises(ForeignFileError, match=f"The image .*{message}"):
        load_instruct(str(tmp_path / "p.parquet"))
    # `save_to_disk` would put the pictures into the file, too. So its file is replaced.
    data.select([0]).save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("*.arrow")
    with pa.ipc.new_stream(str(file), data.features.arrow_schema) as stream:
        stream.write_table(data.data.table.cast(data.features.arrow_schema))
    with pytest.raises(ForeignFileError, match=f"The image .*{message}"):
        load_instruct(str(tmp_path / "saved"))


def test_a_dataset_of_the_hub_names_pictures_of_its_own_repository(monkeypatch):
    def rows(path):
        data = Dataset.from_dict({"messages": [PLAIN], "image": [{"bytes": None, "path": path}]})
        part = Part(data.cast_column("image", Image()))
        monkeypatch.setattr(instruct, "read", lambda *args, **kwargs: part)
        return load_instruct("me/talks")["images"]

    own = "hf://datasets/me/talks@0a1b/images/1.png"
    assert rows(own) == [[{"bytes": None, "path": own}]]
    for path in (
        own.replace("talks", "talks2"),
        own.replace("images", "../../../me/private"),
        own.replace("me", "you"),
    ):
        with pytest.raises(ForeignFileError, match="is an address"):
            rows(path)


def test_a_folder_of_pictures_with_conversations(tmp_path):
    """`datasets` makes these paths, also of pictures in a zip, and lets none lead out of the folder."""
    lines = [json.dumps({"file_name": "1.png", "messages": PLAIN})]
    for name in ("plain", "packed", "hostile"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain/1.png").write_bytes(png())
    (tmp_path / "plain/metadata.jsonl").write_text(lines[0])
    with zipfile.ZipFile(tmp_path / "packed/all.zip", "w") as archive:
        archive.writestr("1.png", png())
        archive.writestr("metadata.jsonl", lines[0])
    for name in ("plain", "packed"):
        ((cell,),) = load_instruct("imagefolder", data_dir=str(tmp_path / name))["images"]
        assert decode_image(cell).size == (4, 4), name
    (tmp_path / "hostile/1.png").write_bytes(png())
    (tmp_path / "hostile/metadata.jsonl").write_text(lines[0].replace("1.png", "../plain/1.png"))
    with pytest.raises(ValueError, match="not allowed"):
        load_instruct("imagefolder", data_dir=str(tmp_path / "hostile"))


def test_paths_and_text_alone_in_a_parquet_file(tmp_path):
    talks = [talk("Is it?", "Yes")] * 2
    Dataset.from_dict({"conversations": talks, "image": ["a/1.png", None]}).to_parquet(str(tmp_path / "p.parquet"))
    rows = load_instruct(str(tmp_path / "p.parquet"))
    assert rows["images"] == [[{"bytes": None, "path": str(tmp_path / "a/1.png")}], []]
    Dataset.from_dict({"conversations": talks}).to_parquet(str(tmp_path / "t.parquet"))
    rows = load_instruct(str(tmp_path / "t.parquet"))
    assert rows["num_images"] == [0, 0] and rows["images"] == [[], []]


def bad(folder, **sample):
    return written(folder, [{"id": "x1", "conversations": talk("q", "a")} | sample])


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="image_folder='nowhere'` is not a folder.*Pass it, or"):
        load_instruct(bad(tmp_path), image_folder="nowhere")
    for path in ("../secret.png", "/etc/secret.png"):
        told = r"secret.png' of the sample 0 of .*llava.json' \(id 'x1'\) lies outside of .*Pass a folder"
        with pytest.raises(ValueError, match=told):
            load_instruct(bad(tmp_path, image=path))
    with pytest.raises(ValueError, match=r"image of the sample 0 of .*\(id 'x1'\) is not a path: \[3\].*parquet"):
        load_instruct(bad(tmp_path, image=[3]))
    with pytest.raises(ValueError, match="sample 0 of .* has the turn .*'from': 'human'.*Repair it"):
        load_instruct(bad(tmp_path, conversations=[{"from": "human"}]))
    with pytest.raises(ValueError, match=r"sample 1 of .* has the fields \['id', 'text'\].*Rename them"):
        load_instruct(written(tmp_path, [LLAVA[1], {"id": 1, "text": "x"}]))
    with pytest.raises(ValueError, match="sample 0 of .* is a str.*`conversations`, a list of"):
        load_instruct(written(tmp_path, ["x"]))
    with pytest.raises(ValueError, match="holds no sample.*Pass another file"):
        load_instruct(written(tmp_path, []))
    (tmp_path / "torn.json").write_text('[{"id": 1')
    with pytest.raises(ValueError, match="torn.json: sample 0, line 1 is no JSON.*Repair it"):
        load_instruct(str(tmp_path / "torn.json"))
    with pytest.raises(ValueError, match="names no file"):
        load_instruct(str(tmp_path / "missing.json"))
    Dataset.from_dict({"text": ["x"]}).to_parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match=r"columns \['text'\].*Rename them"):
        load_instruct(str(tmp_path / "x.parquet"))
    Dataset.from_dict({"messages": [PLAIN], "image": [3]}).to_parquet(str(tmp_path / "n.parquet"))
    with pytest.raises(ValueError, match="column 'image' holds .*must hold images or paths"):
        load_instruct(str(tmp_path / "n.parquet"))


def test_without_images_leaves_the_words(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    sample = {
        "id": "a",
        "image": ["cat.jpg", "cat.jpg"],
        "conversations": [
            {"from": "human", "value": "<image>\n<image>\nWhich cat?"},
            {"from": "gpt", "value": "Both."},
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps([sample]))
    (row,) = without_images(load_instruct(str(tmp_path / "data.json")))
    assert [message["content"] for message in row["messages"]] == ["Which cat?", "Both."]
    assert (row["images"], row["num_images"], row["id"]) == ([], 0, "a")


def test_columns_of_questions_and_answers(tmp_path):
    path = str(tmp_path / "q.parquet")
    columns = {"question": ["What?", "Red?"], "answers": [["cat", "dog", "dog"], ["no"]], "image": [png(), None]}
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(path)
    rows = load_instruct(path)
    said = [[message["content"] for message in row] for row in rows["messages"]]
    assert said == [["<image>\nWhat?", "dog"], ["Red?", "no"]]


def test_datasets_finds_the_messages_again_unless_their_reading_changes(tmp_path, monkeypatch):
    path = str(tmp_path / "q.parquet")
    Dataset.from_dict({"question": ["What?"], "answer": ["A cat."]}).to_parquet(path)

    def files():
        return {file["filename"] for file in load_instruct(path).cache_files}

    first = files()
    assert first and files() == first
    monkeypatch.setattr(inspect, "getsource", lambda module: "other code")
    assert files() != first
