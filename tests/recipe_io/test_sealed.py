"""Records with a checksum of their own: a change of any value is found, and records before it are read."""

import copy
import json

import pytest

from hf_clip_kd.recipe_io.foreign import ForeignFileError
from hf_clip_kd.recipe_io.sealed import SINCE, check_seal, sealed

WORDS = {"allowed": "It must be a record.", "fix": "Write it again."}
RECORD = {"a": 1, "b": [0.1, None, {"c": "grün"}], "d": {"2": True}}


def written():
    return json.loads(json.dumps(sealed(RECORD, "checkpoint")))


def test_what_was_written_is_read():
    record = written()
    assert record.items() >= RECORD.items()
    check_seal(record, "a.json", **WORDS)
    check_seal(dict(reversed(record.items())), "a.json", **WORDS)


@pytest.mark.parametrize("way", ["a", "b 0", "b 1", "b 2 c", "d 2", "format_version", "checksum"])
def test_another_value_is_found(way):
    record = copy.deepcopy(written())
    *before, last = way.split()
    inside = record
    for key in before:
        inside = inside[int(key) if isinstance(inside, list) else key]
    inside[int(last) if isinstance(inside, list) else last] = 7
    with pytest.raises(ForeignFileError, match=r"a\.json: its checksum is .* was written.*must be a.*Write it again"):
        check_seal(record, "a.json", **WORDS)


@pytest.mark.parametrize("name", ["a", "checksum"])
def test_a_lost_value_is_found(name):
    record = written()
    del record[name]
    with pytest.raises(ForeignFileError, match="its checksum is"):
        check_seal(record, "a.json", **WORDS)


@pytest.mark.parametrize("version", [None, SINCE - 1])
def test_earlier_versions_have_none(version):
    check_seal({"a": 1} | ({} if version is None else {"format_version": version}), "a.json", **WORDS)
