"""Pictures that are drawn once on a machine: the same bytes, whole files, and a new folder for new code."""

import hashlib
from pathlib import Path

import datasets
import numpy as np
import pytest

from hf_clip_kd.data.shapes import drawn, load_shapes
from hf_clip_kd.data.shapes.scenes import CHUNK


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    return tmp_path / "shapes"


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_chunk_is_drawn_once_and_reads_the_same(folder, monkeypatch):
    first = load_shapes("test", size=CHUNK + 3)
    (name,) = files(folder)
    assert name.name == "00000.npy" and "test-0-32" in name.parts[0]
    monkeypatch.setattr("hf_clip_kd.data.shapes.render", lambda scenes, *_: pytest.fail("drawn again"))
    again = load_shapes("test", size=CHUNK)
    assert again.data.column("image").equals(first.data.column("image").slice(0, CHUNK))


def test_questions_share_the_pictures(folder):
    load_shapes("test", size=CHUNK)
    stored = files(folder)
    load_shapes("test", size=6 * CHUNK, vqa=True)
    assert files(folder) == stored
    load_shapes("test", size=CHUNK, seed=1)
    assert len(files(folder)) == 2


def test_other_code_has_another_folder():
    code = Path(drawn.__code__.co_filename).parent
    expected = hashlib.sha256((code / "render.py").read_bytes() + (code / "scenes.py").read_bytes()).hexdigest()
    assert drawn.__globals__["_version"]() == expected[:12]


def test_a_disk_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "shapes").write_text("a file in the place of the folder")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    assert np.array_equal(drawn("train", 0, 0, 16, lambda: np.ones((2, 16, 16, 3), np.uint8)), np.ones((2, 16, 16, 3)))
