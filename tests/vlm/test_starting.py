"""Start of a run: the scale of features is measured on what can be read."""

import pytest
import torch
from llava_runs import make_model, make_rows

from hf_clip_kd.vlm import measure_features, training_picture
from hf_clip_kd.vlm.starting import CALIBRATION, feature_scale

BROKEN = {"bytes": b"no picture", "path": "broken.png"}


@pytest.fixture(scope="module")
def llava():
    return make_model()


def broken(dataset, places):
    """Return the rows with pictures at some places that nobody can read."""
    return dataset.map(lambda row, i: {"images": [BROKEN] * len(row["images"])} if i in places else row, True)


def expected(llava, dataset, places):
    model, processor = llava
    pictures = [training_picture(dataset[i]["images"][0]) for i in places]
    return measure_features(model, **processor.image_processor(pictures, return_tensors="pt")).power_of_two_scale()


def test_a_broken_picture_is_passed_over(llava):
    rows = make_rows(4, text_only=())
    found = feature_scale(*llava, broken(rows, (0, 2))).scale
    assert torch.equal(found, expected(llava, rows, (1, 3)))
    assert not torch.equal(found, expected(llava, rows, (0, 2))), "the pictures must differ, or this test could not"


def test_rows_of_text_are_passed_over(llava):
    """The first rows of a data set may all be text."""
    rows = make_rows(CALIBRATION + 2, text_only=range(CALIBRATION))
    assert torch.equal(feature_scale(*llava, rows).scale, expected(llava, rows, (CALIBRATION, CALIBRATION + 1)))


def test_a_number_of_pictures_is_enough(llava, monkeypatch):
    monkeypatch.setattr("hf_clip_kd.vlm.starting.CALIBRATION", 2)
    rows = make_rows(6, text_only=(1,))
    assert torch.equal(feature_scale(*llava, broken(rows, (0, 4))).scale, expected(llava, rows, (2, 3)))


def test_no_readable_picture(llava):
    for rows in (broken(make_rows(2, text_only=()), (0, 1)), make_rows(2, text_only=(0, 1))):
        with pytest.raises(ValueError, match="no readable image in 2 rows.*up to 64.*leave the flag out"):
            feature_scale(*llava, rows)
