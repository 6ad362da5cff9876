"""Pictures of stored answers: files by their path, drawn ones from their benchmark."""

import logging

import numpy as np
from PIL import Image

from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation.vqa import READERS
from hf_clip_kd.evaluation.vqa.pictures import find_pictures

SHAPES = {"shapes": {"split": "test", "max_samples": 12}}


def test_a_file_is_its_own_picture_and_no_benchmark_is_read(tmp_path):
    path = str(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(path)
    assert find_pictures([path, path], {"no benchmark": {}}) == {path: path}


def test_drawn_pictures_are_drawn_again():
    samples = READERS["shapes"](load_shapes("test", size=12, vqa=True))
    found = find_pictures([sample.picture for sample in samples], SHAPES, load_shapes)
    assert list(found) == list(dict.fromkeys(sample.picture for sample in samples)) and len(found) == 2
    for sample in samples:
        np.testing.assert_array_equal(found[sample.picture], sample.image)


def test_pictures_that_are_not_found_are_counted(caplog, tmp_path):
    caplog.set_level(logging.WARNING)
    assert find_pictures(["shapes/0"], SHAPES, load_shapes) == {}
    assert find_pictures([str(tmp_path / "lost.png")], {"red": {}}) == {}
    assert "1 of 1 pictures of shapes are not among its data" in caplog.text
    assert "1 pictures of red are not found: `evaluation`, 'red': 'red' is no benchmark" in caplog.text
