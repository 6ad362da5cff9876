"""Names of files that change with them."""

import os

import pytest

from hf_clip_kd.recipe_io.file_state import file_state


def test_a_name_changes_with_the_file_alone(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"red")
    os.utime(path, ns=(0, 10**18))
    names = [file_state(str(path))]
    assert names[0] == f"{path} 3 {10**18}" == file_state(str(path))
    os.utime(path, ns=(0, 10**18 + 10**9))
    names.append(file_state(str(path)))
    path.write_bytes(b"blue")
    os.utime(path, ns=(0, 10**18))
    assert len({*names, file_state(str(path))}) == 3


@pytest.mark.parametrize("name", ["missing.png", "null\0.png", "a" * 5000])
def test_a_path_without_a_file_stays(name):
    assert file_state(name) == name
