"""recipes/browse.py: from the folders of runs to a page, with pictures and heat maps."""

import json
import re
from pathlib import Path

import pytest
from answered_runs import write_run

import hf_clip_kd as kd
from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation.vqa import READERS
from hf_clip_kd.study.browse.questions import questions_of, read_runs
from recipes import browse

SHAPES = {"split": "test", "max_samples": 12}


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return browse


@pytest.fixture
def folders(tmp_path):
    """Two runs with answers to the questions of `shapes` about two pictures, as `evaluate_vlm.py` leaves them."""
    samples = READERS["shapes"](load_shapes("test", size=12, vqa=True))
    asked = [
        {"question_id": s.question_id, "prompt": s.prompt, "answer": "red", "references": s.answers} for s in samples
    ]
    images = [sample.picture for sample in samples]
    return [
        str(write_run(tmp_path / name, scores, model=name, images=images, evaluation=SHAPES, questions=asked))
        for name, scores in (("alone", [0, 1] * 6), ("distilled", [1] * 12))
    ]


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_page_with_pictures_and_heat_maps(recipe, folders, tmp_path, capsys):
    model, processor = kd.load_clip("test-vit")
    model.save_pretrained(tmp_path / "student")
    processor.save_pretrained(tmp_path / "student")
    path = recipe.main([*folders, "--heat_maps", "student", "--output_file", "pages/answers.html"])
    assert path == Path("pages/answers.html")
    data = data_of(path)
    assert data["models"] == ["alone", "distilled"] and data["encoders"] == ["student"]
    assert [question["picture"] for question in data["questions"]] == [0] * 6 + [1] * 6
    question = data["questions"][0]
    assert question["text"] == f"{question['prompt']} {question['references'][0][0]}"
    assert all(len(question["maps"]) == 1 and question["maps"][0] is not None for question in data["questions"])
    assert "pages/answers.html: 12 questions, 2 pictures, 2 models, 0.0 MB" in capsys.readouterr().out


def test_a_page_of_some_questions_without_their_pictures(recipe, tmp_path):
    run = write_run(tmp_path / "run", [1] * 9, images=["lost.jpg"] * 9, dataset="gqa")
    data = data_of(recipe.main([str(run), "--max_questions", "4"]))
    assert len(data["questions"]) == 4 and data["asked"] == 9 and data["pictures"] == []
    assert Path("outputs/browse.html").is_file()


@pytest.mark.parametrize(
    ("prompt", "references", "choices", "text"),
    [
        ("Is it open?\nAnswer with the letter.", ["B"], ["yes", "no"], "Is it open? no"),
        (
            "Note: You only need to respond with A, B.\n\nWhich is near?\n(A) a",
            ["A"],
            ["a cat"],
            "Which is near? a cat",
        ),
        ("What is it?", ["B"], [], "What is it? B"),
        ("a dog\nno dog", ["a dog"], [], "a dog"),
        ("", [], [], ""),
    ],
)
def test_the_text_of_a_map_names_what_is_seen(tmp_path, prompt, references, choices, text):
    asked = [{"prompt": prompt, "references": references, "choices": choices}]
    (question,) = questions_of(read_runs([write_run(tmp_path, [1], questions=asked)]))
    assert browse.map_text(question) == text


def test_maps_without_a_picture_are_refused(recipe, tmp_path):
    run = write_run(tmp_path / "run", [1], images=["lost.jpg"], dataset="gqa")
    with pytest.raises(ValueError, match="`--heat_maps student` has nothing to draw on.*leave out `--heat_maps`"):
        recipe.main([str(run), "--heat_maps", "student"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--output_file", "alone"],
            "`--output_file alone` is a folder. It must be the file of the page.*alone/browse.html",
        ),
        (["--max_questions", "0"], "`--max_questions 0` leaves nothing to show. It must be 1 or more"),
        (["nothing"], "'nothing' holds no answers to questions.*Run `recipes/evaluate_vlm.py`"),
    ],
)
def test_bad_input_is_named(recipe, folders, flags, message):
    with pytest.raises(ValueError, match=message):
        recipe.main([*folders, *flags])
    assert not Path("outputs/browse.html").exists()
