"""TextVQA: prompts with and without OCR tokens."""

import pytest
from vqa_benchmarks import S1

from hf_clip_kd.evaluation.vqa import READERS, Sample


@pytest.fixture
def files(put):
    rows = [{"image_id": "ab", "question": "what does IT say?", "question_id": 7, "answers": ["stop"] * 10}]
    return {"annotations": put("t.json", {"data": rows})}


def test_reader_with_and_without_ocr(files, put):
    (found,) = READERS["textvqa"](**files)
    assert found == Sample("ab", "ab.jpg", "What does it say?" + S1, ("stop",) * 10)
    ocr = put("ocr.json", {"data": [{"image_id": "ab", "ocr_tokens": ["STOP", "4"], "ocr_info": []}]})
    (found,) = READERS["textvqa"](**files, ocr=ocr)
    assert found.prompt == "What does it say?\nReference OCR token: STOP, 4" + S1


def test_wrong_files(files, put):
    row = {"image_id": 1, "question": "?", "answers": "red"}
    with pytest.raises(ValueError, match=r"t: `answers` of question 0 is a text \('red'\), not a list.*read_textvqa"):
        READERS["textvqa"](put("t", {"data": [row]}))
    with pytest.raises(ValueError, match="no tokens of image 'ab'.*Rosetta"):
        READERS["textvqa"](**files, ocr=put("o", {"data": []}))
    with pytest.raises(ValueError, match="`image_folder='no'` has no image no/ab.jpg"):
        READERS["textvqa"](**files, image_folder="no")
