"""VQAv2: its files, its scores and its submission."""

import json

import pytest
from vqa_benchmarks import S1, SAMPLES, compute

from hf_clip_kd.evaluation.vqa import METRICS, READERS, WRITERS, Sample


@pytest.fixture
def files(put):
    row = {"question_id": 42000, "image_id": 42, "question": "What color?"}
    answers = [{"answer": "red", "answer_id": i, "answer_confidence": "yes"} for i in range(10)]
    return {
        "questions": put("q.json", {"data_subtype": "val2014", "questions": [row]}),
        "annotations": put(
            "a.json", {"annotations": [{"question_id": 42000, "answer_type": "other", "answers": answers}]}
        ),
    }


def test_reader(files, put):
    (found,) = READERS["vqav2"](**files)
    image = "COCO_val2014_000000000042.jpg"
    assert found == Sample(42000, image, "What color?" + S1, ("red",) * 10, category="other")
    questions = put(
        "test.json",
        {"data_subtype": "test-dev2015", "questions": json.loads(files["questions"].read_text())["questions"]},
    )
    (found,) = READERS["vqav2"](questions)
    assert (found.image, found.answers) == ("COCO_test2015_000000000042.jpg", ())


def test_scores_by_answer_type():
    ten = ["red"] * 3 + ["blue"] * 7
    found = compute(
        "vqav2",
        ["Red.", "no", "blue"],
        {"answers": ten, "category": "other"},
        {"answers": ["yes"] * 10, "category": "yes/no"},
        {"answers": ten, "category": "other"},
    )
    assert found["scores"] == pytest.approx([0.9, 0, 1])
    assert found["accuracy"] == pytest.approx(1.9 / 3)
    assert (found["other/accuracy"], found["yes/no/accuracy"]) == (pytest.approx(0.95), 0)


def test_submission(tmp_path):
    WRITERS["vqav2"](tmp_path / "s", SAMPLES[:1], ["It's red."], all_ids=[0, 1])
    assert json.loads((tmp_path / "s").read_text()) == [
        {"question_id": 0, "answer": ""},
        {"question_id": 1, "answer": "it 's red"},
    ]


def test_ids_are_compared_as_text(files, put, tmp_path):
    row = {"question_id": "42000", "image_id": "42", "question": "What color?"}
    questions = put("text.json", {"data_subtype": "val2014", "questions": [row]})
    (found,) = READERS["vqav2"](questions, files["annotations"])
    assert (found.question_id, found.answers, found.image[-6:]) == ("42000", ("red",) * 10, "42.jpg")
    WRITERS["vqav2"](tmp_path / "s", [found], ["red"], all_ids=[42000, 42001])
    assert json.loads((tmp_path / "s").read_text()) == [
        {"question_id": 42000, "answer": "red"},
        {"question_id": 42001, "answer": ""},
    ]
    with pytest.raises(ValueError, match="`all_ids` lacks 1 of the 1 ids of the samples, the first is '42000'.*split"):
        WRITERS["vqav2"](tmp_path / "s", [found], ["red"], all_ids=[7])


@pytest.mark.parametrize("answers", [["2"] * 10, [2] * 10, [{"answer": 2}] * 10])
def test_answers_may_be_texts_and_numbers(files, put, answers):
    row = {"question_id": 42000, "answer_type": "number", "answers": answers}
    samples = READERS["vqav2"](files["questions"], put("b.json", {"annotations": [row, row]}))
    assert samples[0].answers == ("2",) * 10
    assert METRICS["vqav2"]().score(samples, ["2"], n_resamples=0)["accuracy"] == 1


def test_wrong_files(files, put):
    other = {"question_id": "42000", "answer_type": "other", "answers": ["blue"]}
    rows = [*json.loads(files["annotations"].read_text())["annotations"], other]
    with pytest.raises(ValueError, match="b, annotation 1: it has other answers to question 42000 than a row above"):
        READERS["vqav2"](files["questions"], put("b", {"annotations": rows}))
    with pytest.raises(ValueError, match="`answers` of the answers to question 42000 has an item 0 that is null"):
        READERS["vqav2"](files["questions"], put("b", {"annotations": [other | {"answers": [{}]}]}))
    rows = json.loads(files["questions"].read_text())
    with pytest.raises(ValueError, match="it has 2 questions with the id '42000'"):
        READERS["vqav2"](put("q", rows | {"questions": rows["questions"] * 2}))
    with pytest.raises(ValueError, match=r"the file has no \['data_subtype'\]"):
        READERS["vqav2"](put("q", {"questions": []}))
    with pytest.raises(ValueError, match="it has no answers to question 42000"):
        READERS["vqav2"](files["questions"], put("a", {"annotations": []}))
