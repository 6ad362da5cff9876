"""Questions of your own: a plain file for training and for evaluation."""

import pytest
from vqa_benchmarks import compute, lines

from hf_clip_kd.data.instruct import load_instruct
from hf_clip_kd.evaluation.vqa import READERS, Sample, build_vqa_evaluator

ROWS = [
    {"image": "images/1.jpg", "question": "What is it?", "answer": "an owl", "type": "name", "id": "q1"},
    {"image": "images/2.jpg", "question": "How many?", "answers": ["3", 2, "2"], "type": "count"},
    {"question": "Is the sky blue?", "answers": [{"answer": "yes"}]},
]


def test_reader(put, images, tmp_path):
    first, second, third = READERS["questions"](put("mine.jsonl", lines(*ROWS)))
    assert first == Sample("q1", f"{images}/1.jpg", "What is it?", ("an owl",), category="name")
    assert (second.question_id, second.answers, second.category) == ("line 2", ("3", "2", "2"), "count")
    assert third == Sample("line 3", None, "Is the sky blue?", ("yes",))
    (found,) = READERS["questions"](put("x/mine.jsonl", lines(ROWS[0])), tmp_path)
    assert found.image == f"{images}/1.jpg"


def test_the_same_file_trains(put, images):
    path = put("mine.jsonl", lines(*ROWS))
    rows = load_instruct(str(path))
    assert rows["id"] == ["q1", "1", "2"] and rows["num_images"] == [1, 1, 0]
    said = [[message["content"] for message in row] for row in rows["messages"]]
    # The commonest answer is learned.
    assert said == [
        ["<image>\nWhat is it?", "an owl"],
        ["<image>\nHow many?", "2"],
        ["Is the sky blue?", "yes"],
    ]
    paths = [[image["path"] for image in row] for row in rows["images"]]
    assert paths == [[sample.image] if sample.image else [] for sample in READERS["questions"](path)]


def test_scores_by_hand():
    rows = [
        {"answers": ["yes"], "category": "exists"},
        {"answers": ["no"], "category": "exists"},
        {"answers": ["No.", "no"], "category": ""},
        {"answers": ["owl", "bird"], "category": "name"},
        {"answers": ["yes", "maybe"], "category": "name"},
    ]
    found = compute("questions", [" Yes. ", "yes", "no", "Bird", "YES"], *rows)
    assert found["scores"] == [1, 0, 1, 1, 1]
    assert (found["accuracy"], found["exists/accuracy"], found["name/accuracy"]) == (0.8, 0.5, 1)
    # Three questions are closed: two of the predictions say yes, both of the type `exists`.
    assert (found["yes_ratio"], found["exists/yes_ratio"]) == (pytest.approx(2 / 3), 1)
    assert "name/yes_ratio" not in found
    assert "yes_ratio" not in compute("questions", ["owl"], {"answers": ["owl"]})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "1.jpg", "answer": "x"}, r"mine.jsonl: line 4 has no \['question'\].*read_questions\("),
        ({"question": "Q", "answer": ["x"]}, "`answer` of line 4 is a list .*not a text"),
        ({"question": "Q", "answers": "x"}, "`answers` of line 4 is a text .*not a list"),
        ({"question": "Q", "answer": "x", "id": "q1"}, "it has 2 questions with the id 'q1'"),
    ],
)
def test_wrong_lines(row, message, put):
    with pytest.raises(ValueError, match=message):
        READERS["questions"](put("mine.jsonl", lines(*ROWS, row)))


def test_a_question_without_an_answer_is_no_sample_to_train_on(put):
    path = str(put("mine.jsonl", lines({"question": "Q", "answers": []})))
    with pytest.raises(
        ValueError, match="sample 0 of .*mine.jsonl.* has the question 'Q' without an answer.*`question`"
    ):
        load_instruct(path)


def test_a_missing_image_is_named(put, images):
    block = {"questions": str(put("mine.jsonl", lines(ROWS[0] | {"image": "images/9.jpg"})))}
    with pytest.raises(ValueError, match="1 of 1 images are missing, the first is .*9.jpg"):
        build_vqa_evaluator({"mine": {"benchmark": "questions"} | block})
