"""MME: its files, its points, its submission, and the parts of it that have no sum."""

from pathlib import Path

import pytest
from PIL import Image
from vqa_benchmarks import S1, SAMPLES, compute

from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import METRICS, READERS, WRITERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.mme import COGNITION, PERCEPTION, read_yes_no


@pytest.fixture
def mme(put, tmp_path):
    text = "Is it red? Please answer yes or no.\tYes\nIs it blue?  Please answer yes or no.\tNo\n\n"
    put("mme/color/1.txt", text)
    put("mme/color/1.jpg", "")
    put("mme/artwork/questions_answers_YN/2.txt", text)
    put("mme/artwork/images/2.png", "")
    put("mme/eval_tool/readme.txt", "not a subtask")
    return tmp_path / "mme"


def test_reader(mme):
    found = READERS["mme"](mme)
    assert [sample.question_id for sample in found] == ["color/1.jpg"] * 2 + ["artwork/2.png"] * 2
    assert found[0] == Sample("color/1.jpg", str(mme / "color/1.jpg"), "Is it red?" + S1, ("Yes",), category="color")
    assert found[3].prompt == "Is it blue?" + S1
    assert METRICS["mme"]().score(found, ["yes", "no", "yes", "yes"])["color/score"] == 200


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("Yes", "yes", "yes"),
        ("yes.", "yes", "yes"),
        ("No, it is not", "no", "no"),
        ("y", "other", "yes"),
        ("n.", "other", "no"),
        ("not yes", "no", "no"),
        ("noyes", "no", "no"),
        ("It is. No", "other", "other"),
        ("", "other", "other"),
        ("a no", "no", "no"),
    ],
)
def test_reads_yes_and_no(text, llava, lmms_eval):
    assert (read_yes_no(text), read_yes_no(text, "lmms_eval")) == (llava, lmms_eval)


def pairs(*subtasks, images=2):
    return [
        {"answers": [answer], "category": subtask, "image": f"{i}.jpg"}
        for subtask in subtasks
        for i in range(images)
        for answer in ("Yes", "No")
    ]


def test_points_by_hand():
    # Two images of one subtask: one has both questions right, the other one.
    found = compute("mme", ["yes", "no", "yes", "yes"], *pairs("color"))
    assert (found["color/accuracy"], found["color/accuracy_plus"], found["color/score"]) == (0.75, 0.5, 125)
    assert "perception" not in found and "cognition" not in found


def test_sums():
    rows = pairs(*PERCEPTION, *COGNITION)
    right = [row["answers"][0] for row in rows]
    found = compute("mme", right, *rows)
    assert (found["perception"], found["cognition"]) == (2000, 800)
    found = compute("mme", ["yes"] * len(rows), *rows)
    assert (found["perception"], found["cognition"]) == (500, 200)


def test_needs_pairs():
    with pytest.raises(ValueError, match=r"do not have two questions.*'1.jpg'\), with 1.*read_mme"):
        compute("mme", ["yes"], {})


def test_a_part_of_mme_has_no_sum(put, asked, tmp_path):
    folder = Path(put("mme/color/1.txt", "Is it?\tYes\nIs it not?\tNo")).parents[1]
    Image.new("RGB", (4, 4)).save(folder / "color/1.png")
    evaluate = build_vqa_evaluator({"mme": {"folder": str(folder)}})
    assert evaluate({"Is it not?" + S1: "no"}, None, folder=tmp_path / "out") == {}
    assert evaluate.results["mme"]["color/score"] == 200
    assert (tmp_path / "out/submissions/mme_model_vqa_llava/color.txt").read_text().count("\n") == 2


def test_half_of_a_pair_is_found_before_a_model_is_asked(put):
    folder = Path(put("mme/color/1.txt", "Is it?\tYes\nIs it not?\tNo")).parents[1]
    Image.new("RGB", (4, 4)).save(folder / "color/1.png")
    build_vqa_evaluator({"mme": {"folder": str(folder)}})
    with pytest.raises(ValueError, match="'mme': 1 images of MME do not have two questions"):
        build_vqa_evaluator({"mme": {"folder": str(folder), "max_samples": 1}})


def test_submission(tmp_path):
    WRITERS["mme"](tmp_path / "results", SAMPLES, ["Yes", "No\tway\n"])
    assert (tmp_path / "results" / "color.txt").read_text() == (
        "a.txt\tIs it? Please answer yes or no.\tYes\tYes\na.txt\tIs it not? Please answer yes or no.\tNo\tNo way\n"
    )


def test_wrong_files(put):
    with pytest.raises(ValueError, match="no folder with the name of a subtask.*existence"):
        READERS["mme"](put("x/y", "").parent)
    with pytest.raises(ValueError, match="it has 1 lines.*two lines"):
        READERS["mme"](put("m/color/1.txt", "Q\tYes\n").parents[1])
    with pytest.raises(ValueError, match="there is no image"):
        READERS["mme"](put("m/color/1.txt", "Q\tYes\nR\tNo").parents[1])
