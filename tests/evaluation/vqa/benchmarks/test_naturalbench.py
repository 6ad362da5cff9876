"""NaturalBench: its files, and its four scores against the authors' conditions."""

import random

import pytest
from vqa_benchmarks import compute, parquet, picture

from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import READERS
from hf_clip_kd.evaluation.vqa.benchmarks.naturalbench import read_word
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ROW = {"Index": 5, "Question_0": "Is it red?", "Question_1": "Is it blue?", "Question_Type": "yes_no"}
ROW |= {"Image_0": picture("red"), "Image_1": picture("blue")}
ROW |= {
    "Image_0_Question_0": "Yes",
    "Image_1_Question_0": "No",
    "Image_0_Question_1": "No",
    "Image_1_Question_1": "Yes",
}
GROUP = [{"answers": [answer]} for answer in ("Yes", "No", "No", "Yes")]


def test_reader(tmp_path):
    found = READERS["naturalbench"](parquet(tmp_path / "train-0.parquet", ROW), tmp_path / "images")
    assert [sample.question_id for sample in found] == ["5/q0_i0", "5/q0_i1", "5/q1_i0", "5/q1_i1"]
    assert [sample.answers for sample in found] == [("Yes",), ("No",), ("No",), ("Yes",)]
    assert found[0].image == found[2].image != found[1].image == found[3].image
    assert found[0].prompt == "Is it red? Please answer Yes or No."
    assert (found[3].prompt, found[3].category) == ("Is it blue? Please answer Yes or No.", "yes_no")
    letters = {"Image_0_Question_0": "A", "Image_1_Question_0": "B", "Image_0_Question_1": "B"}
    letters = ROW | letters | {"Image_1_Question_1": "A", "Question_Type": "multiple_choice"}
    (first, *_) = READERS["naturalbench"](parquet(tmp_path / "b.parquet", letters), tmp_path / "images")
    assert first.prompt == "Is it red? Please output the letter corresponding to the correct option."


@pytest.mark.parametrize(
    ("text", "word"),
    [("Yes", "yes"), ("no.", "no"), ("No, yes", "no"), ("yesterday", ""), ("I say: YES!", "yes"), ("", "")],
)
def test_reads_the_first_word(text, word):
    assert read_word(text, ("yes", "no")) == word


def test_a_letter_is_a_word():
    assert [read_word(text, ("a", "b")) for text in ("B: a cap", "It is a cap, B", "Cab")] == ["b", "a", ""]


@pytest.mark.parametrize(
    ("answers", "question", "image", "group", "accuracy"),
    [
        ("yes no no yes", 1, 1, 1, 1),
        ("yes yes yes yes", 0, 0, 0, 0.5),
        ("yes no yes no", 0.5, 0, 0, 0.5),
        ("yes yes no no", 0, 0.5, 0, 0.5),
        ("yes no no no", 0.5, 0.5, 0, 0.75),
        ("? ? ? ?", 0, 0, 0, 0),
    ],
)
def test_numbers_by_hand(answers, question, image, group, accuracy):
    found = compute("naturalbench", answers.split(), *GROUP)
    names = ("question_accuracy", "image_accuracy", "group_accuracy", "accuracy")
    assert tuple(found[name] for name in names) == (question, image, group, accuracy)


def test_against_the_authors_conditions():
    """1 is yes, 0 is no and -1 neither. Question 0 is true of image 0, question 1 of image 1."""
    rng = random.Random(0)
    words = {1: "Yes", 0: "no.", -1: "perhaps"}
    groups = [[rng.choice((1, 1, 0, 0, -1)) for _ in range(4)] for _ in range(200)]
    q_acc = i_acc = g_acc = acc = 0
    for q0_i0, q0_i1, q1_i0, q1_i1 in groups:
        questions = [q0_i0 == 1 and q0_i1 == 0, q1_i0 == 0 and q1_i1 == 1]
        images = [q0_i0 == 1 and q1_i0 == 0, q0_i1 == 0 and q1_i1 == 1]
        q_acc, i_acc = q_acc + sum(questions), i_acc + sum(images)
        g_acc += all(questions) and all(images)
        acc += (q0_i0 == 1) + (q0_i1 == 0) + (q1_i0 == 0) + (q1_i1 == 1)
    found = compute("naturalbench", [words[value] for group in groups for value in group], *GROUP * 200)
    assert found["question_accuracy"] == pytest.approx(q_acc / 400)
    assert found["image_accuracy"] == pytest.approx(i_acc / 400)
    assert found["group_accuracy"] == pytest.approx(g_acc / 200)
    assert found["accuracy"] == pytest.approx(acc / 800)


def test_what_is_no_group_is_refused():
    with pytest.raises(ValueError, match=r"The answers \['yes', 'no', 'no'\] are no group.*read_naturalbench"):
        compute("naturalbench", ["yes"] * 3, *GROUP[:3])
    with pytest.raises(ValueError, match=r"\['no', 'no', 'yes', 'yes'\] are no group of NaturalBench"):
        compute("naturalbench", ["yes"] * 4, *GROUP[1:], GROUP[0])


def test_half_a_group_is_told_before_any_model_is_asked(tmp_path):
    path = parquet(tmp_path / "train.parquet", ROW)
    block = {"questions": str(path), "image_folder": str(tmp_path / "images")}
    assert len(build_vqa_evaluator({"naturalbench": block}).benchmarks[0].samples) == 4
    with pytest.raises(
        ValueError, match=r"`evaluation`, 'naturalbench': The answers \['yes', 'no', 'no'\] are no group"
    ):
        build_vqa_evaluator({"naturalbench": block | {"max_samples": 3}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Question_Type": "open"}, r"`Question_Type` is 'open', none of \['yes_no', 'multiple_choice'\]"),
        ({"Image_0_Question_0": "A"}, r"an answer is 'A', none of \('yes', 'no'\)"),
        ({"Image_0_Question_0": "No"}, r"the answers \['No', 'No', 'No', 'Yes'\] do not change with the image"),
    ],
)
def test_wrong_files(change, message, tmp_path):
    path = parquet(tmp_path / "train.parquet", ROW | change)
    with pytest.raises(ForeignFileError, match=f"train.parquet, row 0: {message}"):
        READERS["naturalbench"](path, tmp_path / "images")
