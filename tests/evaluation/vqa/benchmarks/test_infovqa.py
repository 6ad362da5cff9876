"""InfographicVQA: its names of fields, and the mean of ANLS by type of answer."""

import pytest
from vqa_benchmarks import S1, compute

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError

QUESTION = {"questionId": 98313, "question": "Which one?", "answers": ["pinterest"], "image_local_name": "37313.jpeg"}


def test_reader(put):
    path = put("val.json", {"data": [QUESTION | {"answer_type": ["single span"]}]})
    (found,) = READERS["infovqa"](path)
    assert found == Sample(98313, "37313.jpeg", "Which one?" + S1, ("pinterest",), category="single span")


def test_numbers_by_hand():
    rows = [{"answers": ["70%", "70"], "category": "non span"}, {"answers": ["blue"], "category": "single span"}]
    found = compute("infovqa", ["70 %", "blues"], *rows)
    assert found["scores"] == pytest.approx([0.75, 0.8])
    assert (found["anls"], found["non span/anls"]) == (pytest.approx(0.775), 0.75)


def test_wrong_files(put):
    with pytest.raises(
        ForeignFileError, match=r"question 0 has no \['image_local_name'\].*read_infovqa\('infographics"
    ):
        READERS["infovqa"](put("x.json", {"data": [{"questionId": 1, "question": "Q", "image": "a.png"}]}))
