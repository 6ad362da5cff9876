"""The manifest of a cache: a change of any value is found, and earlier versions are read."""

import copy
import json

import pytest
from cache_world import teacher, writer

import hf_clip_kd as kd
from hf_clip_kd.teachers.cache import manifest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    writer(folder, teacher()).write()
    return folder


@pytest.fixture
def changed(cache):
    """Return a function that changes the manifest for one test."""
    path = cache / manifest.NAME
    before = path.read_text()
    yield lambda values: path.write_text(json.dumps(values))
    path.write_text(before)


def content(cache):
    return json.loads((cache / manifest.NAME).read_text())


def places(value):
    """Return the way to each value that has no other inside."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [[key, *rest] for key, item in items for rest in places(item)]
    return [[]]


def test_a_change_of_any_value_is_found(cache, changed):
    whole = content(cache)
    found = places(whole)
    assert len(found) > 20
    for *way, last in found:
        values = copy.deepcopy(whole)
        inside = values
        for key in way:
            inside = inside[key]
        inside[last] = 7
        assert values != whole
        changed(values)
        with pytest.raises(ValueError, match=r"cache\.json: (it|its) "):
            kd.TeacherCache(cache)


def test_a_checksum_is_missing_in_earlier_versions_alone(cache, changed):
    values = content(cache)
    del values["checksum"]
    changed(values)
    with pytest.raises(ValueError, match=r"its checksum is '\w{8}', and None was written"):
        kd.TeacherCache(cache)
    changed(values | {"format_version": 2})
    assert len(kd.TeacherCache(cache)) == 21


def test_a_claimed_cache_is_claimed_again(cache):
    """The checksum is no part of what a run compares."""
    manifest.claim(cache, manifest.read(cache))
