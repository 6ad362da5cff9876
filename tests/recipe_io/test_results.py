"""Files are written whole or not at all."""

import os
from types import SimpleNamespace

import pytest

from hf_clip_kd.recipe_io import results
from hf_clip_kd.recipe_io.results import remove_torn, write_whole


@pytest.mark.parametrize("data", ["a ü\n", b"\x00\xff"])
def test_a_file_is_written_with_its_folders(tmp_path, data):
    path = tmp_path / "new" / "folder" / "file.json"
    write_whole(path, data)
    write_whole(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert os.listdir(path.parent) == ["file.json"]


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
    def killed(*paths):
        raise KeyboardInterrupt

    path = tmp_path / "file.json"
    write_whole(path, "old")
    monkeypatch.setattr(results, "os", SimpleNamespace(**vars(os) | {"replace": killed}))
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old" and len(os.listdir(tmp_path)) == 2
    remove_torn(tmp_path)
    assert os.listdir(tmp_path) == ["file.json"]
