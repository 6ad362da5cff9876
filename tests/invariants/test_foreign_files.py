"""Readers of files that others wrote: a broken file is read right, or an error of three parts names it.

A new reader is a line of `READERS` in tests/helpers/foreign_files.py. A new kind of damage is a line of `FORMS` there.
"""

import copy
import json
import pickle
import re
from pathlib import Path

import pytest
from foreign_files import FORMS, NEVER, QUESTION, READERS, SAME, STRANGE, TALK, data_of

from hf_clip_kd.data.reading.conversations import read_images, read_messages
from hf_clip_kd.evaluation.vqa import Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError, read_json, read_json_lines, read_yaml

PARTS = [{"type": "image_url", "image_url": {"url": "1.jpg"}}, {"type": "text", "text": "red?"}]
# A text with a half, as `repr` shows it; a backslash is shown as two.
HALF = re.compile(r"(?<!\\)\\ud83d")


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


@pytest.mark.parametrize("sample", [TALK, QUESTION, {"id": 1, "messages": [{"role": "user", "content": PARTS}]}])
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
