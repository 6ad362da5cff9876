"""Readers of files that somebody else wrote: each reads a broken file right, or names it in an error of three parts.

A new reader is a line of `READERS`. A new kind of damage is a line of `FORMS`.
"""

import copy
import gzip
import json
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from hf_clip_kd.data.instruct import load_instruct
from hf_clip_kd.data.reading.conversations import read_images, read_messages
from hf_clip_kd.evaluation.prompts import load_class_names, load_templates
from hf_clip_kd.evaluation.vqa import READERS as VQA
from hf_clip_kd.evaluation.vqa import Sample
from hf_clip_kd.evaluation.vqa.benchmarks.llava_questions import read_answers
from hf_clip_kd.export.importing.architecture import read_architecture
from hf_clip_kd.hub.cards.sources import read_recipe
from hf_clip_kd.models.presets import named, read_config
from hf_clip_kd.recipe_io.foreign import ForeignFileError, read_json, read_json_lines, read_yaml
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.recipe_io.results import load_results
from hf_clip_kd.teachers.cache import manifest

PEOPLE = [{"answer": "red"}, {"answer": "blue"}] * 5
VQAV2 = {"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 42, "question": "What is red?"}]}
LABELS = {"annotations": [{"question_id": 1, "answer_type": "other", "answers": PEOPLE}]}
SEED = {"question_id": "7", "question": "red?", "answer": "A", "data_type": "image", "data_id": "1.jpg"}
SEED |= {"question_type_id": 3} | {f"choice_{letter}": "red" for letter in "abcd"}
MMMU = {"id": "validation_Art_1", "prompt": "red?", "question_type": "multiple-choice", "image": "1.jpg"}
MMMU |= {"all_choices": ["A", "B"], "index2ans": {"A": "red", "B": "blue"}}
SCIENCE = {"question": "red?", "choices": ["a", "b"], "answer": 1, "hint": "", "image": None, "subject": "red"}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TALK = {
    "id": "x",
    "image": "1.jpg",
    "conversations": [{"from": "human", "value": "red?"}, {"from": "gpt", "value": "y"}],
}
PARTS = [{"type": "image_url", "image_url": {"url": "1.jpg"}}, {"type": "text", "text": "red?"}]


@dataclass
class Recipe:
    name: str = field(metadata={"help": "Name."})
    losses: dict | None = field(default=None, metadata={"help": "Losses."})


def parsed(path):
    return RecipeParser([Recipe], path).parse(["--config", str(path)])


def student(path):
    with named(path):
        return read_config(read_json(path, allowed="", fix=""), path).to_json_string()


def aside(path, name, content):
    path.with_name(name).write_text(json.dumps(content))
    return path.with_name(name)


def mme(path):
    Image.new("RGB", (4, 4)).save(path.with_suffix(".jpg"))
    return VQA["mme"](path.parents[1])


def conversations(path):
    return list(load_instruct(str(path)))


# Name: the file's place, the content of a good file, and the reader.
READERS = {
    "vqav2": ("a.json", VQAV2, lambda path: VQA["vqav2"](path, aside(path, "b.json", LABELS))),
    "vqav2 annotations": ("a.json", LABELS, lambda path: VQA["vqav2"](aside(path, "b.json", VQAV2), path)),
    "gqa": (
        "a.json",
        {"1": {"question": "red?", "imageId": 4, "answer": "red", "types": {"structural": "query"}}},
        VQA["gqa"],
    ),
    "textvqa": ("a.json", {"data": [{"image_id": "1", "question": "q", "answers": ["red"] * 10}]}, VQA["textvqa"]),
    "ocr": (
        "a.json",
        {"data": [{"image_id": "1", "ocr_tokens": ["red"]}]},
        lambda path: VQA["textvqa"](aside(path, "b.json", {"data": [{"image_id": 1, "question": "q"}]}), ocr=path),
    ),
    "vizwiz": ("a.json", [{"image": "1.jpg", "question": "red?", "answers": PEOPLE}], VQA["vizwiz"]),
    "pope": (
        "coco_pope_random.json",
        b'{"question_id": 1, "image": "1.jpg", "text": "red?", "label": "yes"}\n',
        lambda path: VQA["pope"](path.parent),
    ),
    "mme": ("color/1.txt", b"Is it red?\tYes\nIs it blue?\tNo\n", mme),
    "scienceqa": (
        "a.json",
        {"5": SCIENCE},
        lambda path: VQA["scienceqa"](path, aside(path, "b.json", {"test": [5]})),
    ),
    "splits": (
        "a.json",
        {"test": ["5"], "red": []},
        lambda path: VQA["scienceqa"](aside(path, "b.json", {"5": SCIENCE}), path),
    ),
    "seedbench": ("a.json", {"questions": [SEED], "question_type": {"red": 3}}, VQA["seedbench"]),
    "mmmu": ("a.json", [MMMU], lambda path: VQA["mmmu"](path, None)),
    "mmmu answers": (
        "a.json",
        {"validation_Art_1": {"ground_truth": ["A"], "x": "red"}},
        lambda path: VQA["mmmu"](aside(path, "b.json", [MMMU]), None, path),
    ),
    "mmvet": ("a.json", {"v1_0": {"imagename": "1.jpg", "question": "red?", "capability": ["ocr"]}}, VQA["mmvet"]),
    "llava": (
        "a.jsonl",
        b'\n{"question_id": 1, "text": "red?", "image": "1.jpg"}\n{"question_id": 2, "text": "b"}',
        VQA["llava"],
    ),
    "answers": (
        "a.jsonl",
        b'{"question_id": 1, "prompt": "b", "text": "red"}\n',
        lambda path: read_answers(path, [Sample("1", None, "b")]),
    ),
    "conversations": ("a.json", [TALK], conversations),
    "conversations by lines": ("a.jsonl", json.dumps(TALK).encode() + b"\n", conversations),
    "class names": ("a.json", ["red", "blue"], load_class_names),
    "templates": ("a.json", ["a red {}"], load_templates),
    "student": (
        "a.json",
        {
            "model_type": "clip",
            "architectures": ["red"],
            "vision_config": TOWER | {"hidden_act": "gelu"},
            "text_config": TOWER,
        },
        student,
    ),
    "result": (
        "a.json",
        {"dataset": "red", "task": "vqa_llava", "metrics": {"accuracy": 0.5}, "config": {"a": [1]}},
        lambda path: load_results(path.parent),
    ),
    "cache": (
        "cache.json",
        {"teachers": [{"dims": {}}], "settings": {"red": 1}, "request": {}},
        lambda path: manifest.read(path.parent),
    ),
    "open_clip": (
        "a.json",
        {"model_cfg": {"embed_dim": 8, "vision_cfg": {"width": 8}, "text_cfg": {"name": "red"}}},
        read_architecture,
    ),
    "recipe": ("a.yaml", b'name: "red"\nlosses: {clip: 1e-3}\n', parsed),
    "recipe of a run": ("recipe.yaml", b'name: "red"\nlosses: {clip: 1}\n', lambda path: read_recipe(path.parent)),
}


def data_of(name):
    content = READERS[name][1]
    return content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()


FORMS = {
    "whole": lambda data: data,
    "truncated": lambda data: data[: len(data) // 2],
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "two byte order marks": lambda data: b"\xef\xbb\xbf" * 2 + data,
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "utf-16 without a mark": lambda data: data.decode().encode("utf-16-le"),
    "utf-32": lambda data: data.decode().encode("utf-32"),
    "latin-1": lambda data: data.replace(b"red", b"r\xe9d"),
    "line separator in a text": lambda data: data.replace(b"red", "r\u2028d".encode()),
    "next line in a text": lambda data: data.replace(b"red", "r\x85d".encode()),
    "form feed in a text": lambda data: data.replace(b"red", b"r\x0cd"),
    "carriage returns": lambda data: data.replace(b"\n", b"\r"),
    "both line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "line ends written twice": lambda data: data.replace(b"\n", b"\r\r\n"),
    "half a surrogate pair": lambda data: data.replace(b"red", rb"r\ud83d"),
    "a whole pair": lambda data: data.replace(b"red", rb"r\ud83d\ude00"),
    "empty": lambda data: b"",
    "spaces": lambda data: b" \n\n",
    "a number": lambda data: b"5",
    "a text": lambda data: b'"red"',
    "null": lambda data: b"null",
    "list in a list": lambda data: b"[" + data + b"]",
    "gzip": gzip.compress,
    "zip": lambda data: b"PK\x03\x04" + data,
    "garbage": lambda data: bytes(range(256)),
    "zeros at the end": lambda data: data + bytes(64),
    "trailing comma": lambda data: data.rstrip()[:-1] + b"," + data.rstrip()[-1:],
    "comment": lambda data: b"// comment\n" + data,
    "NaN": lambda data: data.replace(b"1", b"NaN").replace(b'"red', b'NaN, "red'),
    "Infinity": lambda data: data.replace(b"1", b"-Infinity"),
    "1e400": lambda data: data.replace(b"1", b"1e400"),
    "deep": lambda data: data.replace(b'"red', b"[" * 100_000).replace(b"clip", b"{[" * 50_000),
    "huge number": lambda data: data.replace(b'"red', b"9" * 5000 + b', "red', 1),
    "key twice": lambda data: data.replace(b"{", b'{"k": 1, "k": 2, ', 1),
    "git lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "web page": lambda data: b"<!DOCTYPE html>\n<html></html>\n",
}
# Forms that change nothing, and forms that nobody can read.
SAME = ("byte order mark", "two byte order marks", "utf-16", "utf-32", "carriage returns", "both line ends")
NEVER = ("utf-16 without a mark", "latin-1", "gzip", "zip", "garbage", "zeros at the end", "git lfs")
# A text with a half, as `repr` shows it; a backslash is shown as two.
HALF = re.compile(r"(?<!\\)\\ud83d")
# Values that may stand in the place of any other.
STRANGE = (None, True, 5, 10**30, 0.5, "red", "", [], {}, ["red"], [[None]], {"red": [None]}, ..., 1e999)


def check(path, read):
    """Read a file: return the result, whose texts can be written, or `None` for an error that names the file."""
    try:
        made = read(path)
    except ValueError as error:
        assert type(error) in (ValueError, ForeignFileError), repr(error)
        assert path.name in str(error), str(error)
        assert len(str(error)) > len(path.name) + 40 and str(error).endswith((".", "`", "]")), str(error)
        return None
    for sample in made if isinstance(made, list) else ():
        if isinstance(sample, Sample):
            words = [sample.prompt, sample.category, *sample.answers, *sample.choices]
            assert all(isinstance(word, str) for word in words), sample
            assert isinstance(sample.question_id, str | int) and isinstance(sample.image, str | None), sample
    assert not HALF.search(repr(made)), made
    return repr(made)


@pytest.fixture
def place(tmp_path):
    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    return make


@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_read_right_or_named(name, place):
    file, _, read = READERS[name]
    path, made = place(file), {}
    for form, damage in FORMS.items():
        path.write_bytes(damage(data_of(name)))
        made[form] = check(path, read)
    assert made["whole"] is not None
    assert {form: made[form] for form in SAME} == dict.fromkeys(SAME, made["whole"])
    assert {form: made[form] for form in NEVER} == dict.fromkeys(NEVER)


def places(content, way=()):
    """Yield the way to each value in a JSON content, from outside to inside."""
    yield way
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in parts:
        yield from places(part, (*way, key))


def changed(content, way, value):
    """Return a copy with another value at the end of the way, or without that key for `...`."""
    if not way:
        return None if value is ... else value
    content = copy.deepcopy(content)
    inner = content
    for key in way[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[way[-1]]
    else:
        inner[way[-1]] = value
    return content


def json_of(name):
    content = READERS[name][1]
    return json.loads(content.decode().strip().split("\n")[0]) if isinstance(content, bytes) else content


STRUCTURED = [name for name, (file, _, _) in READERS.items() if ".json" in file and "conversations" not in name]


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_strange_value_is_read_right_or_named(name, place):
    file, _, read = READERS[name]
    path, content = place(file), json_of(name)
    for way in places(content):
        for value in STRANGE:
            path.write_text(json.dumps(changed(content, way, value)))
            check(path, read)


@pytest.mark.parametrize("sample", [TALK, {"id": 1, "messages": [{"role": "user", "content": PARTS}]}])
def test_a_strange_value_in_a_conversation_is_read_right_or_named(sample):
    for way in places(sample):
        for value in STRANGE:
            found = changed(sample, way, value)
            if isinstance(found, dict):
                check(Path("a.json"), lambda _, found=found: talk(found))


def talk(sample):
    messages, inside = read_messages(sample, "sample 0 of 'a.json'")
    images = read_images(sample, "sample 0 of 'a.json'")
    assert all(isinstance(text, str) for message in messages for text in message.values())
    assert all(isinstance(image, str) for image in images + inside)
    return messages


@pytest.mark.parametrize("read", [read_json, read_yaml, lambda *args, **words: list(read_json_lines(*args, **words))])
def test_what_is_no_file_is_named(read, tmp_path):
    for path, problem in ((tmp_path, "it is a folder"), (tmp_path / "a", "there is no such file")):
        with pytest.raises(ForeignFileError, match=f"{path}: {problem}.*Allowed. Fix."):
            read(path, allowed="Allowed.", fix="Fix.")


def test_the_error_survives_the_way_out_of_a_worker():
    error = ForeignFileError("a.json", "it is empty", allowed="It must hold more.", fix="Write it.", where="line 1")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == str(type(error)(str(error)))
    assert str(error) == "a.json, line 1: it is empty. It must hold more. Write it."
