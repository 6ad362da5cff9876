"""Files of the DocVQA challenge: JSON and parquet read alike, and the file for its server."""

import json

import pytest
from vqa_benchmarks import S1, SAMPLES, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, WRITERS, Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError

QUESTION = {"questionId": 337, "question": "What is the date?", "answers": ["1/8/93", "1993"]}


def test_parquet_and_json_are_read_alike(put, tmp_path):
    types = ["form", "layout"]
    path = put("val.json", {"data": [QUESTION | {"image": "documents/a_1.png", "question_types": types}]})
    (found,) = READERS["docvqa"](path)
    expected = Sample(337, "documents/a_1.png", "What is the date?" + S1, ("1/8/93", "1993"), category="form,layout")
    assert found == expected
    row = QUESTION | {"questionId": "337", "image": picture(), "question_types": types}
    parquet(tmp_path / "DocVQA/validation-0.parquet", row)
    (other,) = READERS["docvqa"](tmp_path / "DocVQA", tmp_path / "images")
    assert (other.question_id, other.prompt, other.answers, other.category) == (
        expected.question_id,
        expected.prompt,
        expected.answers,
        expected.category,
    )
    assert other.image.startswith(str(tmp_path / "images"))


def test_a_test_split_has_no_answers(put):
    path = put("test.json", {"data": [{"questionId": 1, "question": "Q", "image": "a.png"}]})
    assert READERS["docvqa"](path)[0].answers == ()


def test_submission(tmp_path):
    WRITERS["docvqa"](tmp_path / "s.json", SAMPLES[:1], ["3 May"])
    assert json.loads((tmp_path / "s.json").read_text()) == [{"questionId": 1, "answer": "3 May"}]


def test_wrong_files(put, tmp_path):
    with pytest.raises(ForeignFileError, match=r"x.json.*the file has no \['data'\].*read_docvqa\('val"):
        READERS["docvqa"](put("x.json", {}))
    with pytest.raises(ForeignFileError, match="`questionId` of question 0 is a text"):
        READERS["docvqa"](put("x.json", {"data": [QUESTION | {"questionId": "a", "image": "a.png"}]}))
    path = parquet(tmp_path / "validation.parquet", QUESTION | {"image": picture()})
    with pytest.raises(
        ForeignFileError, match="validation.parquet: it holds the images themselves, and `image_folder`"
    ):
        READERS["docvqa"](path)
