"""recipes/show_answers.py: a sheet of pictures with what each model answered."""

import json

import pytest
from PIL import Image

from hf_clip_kd.evaluation.vqa import SHORT_ANSWER
from hf_clip_kd.recipe_io.results import save_results
from recipes import show_answers as recipe

KINDS = ("category", "name")


@pytest.fixture
def folder(tmp_path):
    """Two runs that were asked twelve questions about six pictures; the first is right in all, the second in none."""
    (tmp_path / "pictures").mkdir()
    index = []
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / "pictures" / f"{i}.png")
        index.append({"image": f"{i}.png", "source": "me", "licence": "CC0" if i % 2 else "GPL-2"})
    (tmp_path / "pictures" / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in index))
    for run, score in (("knows", 1.0), ("guesses", 0.0)):
        path = save_results(
            tmp_path / run / "results",
            dataset="unseen",
            model=str(tmp_path / run),
            task="vqa_llava",
            metrics={"accuracy": score},
            config={},
        )
        lines = [
            {
                "question_id": f"{i}/{kind}",
                "image": str(tmp_path / "pictures" / f"{i}.png"),
                "prompt": f"Which {kind} is it?{SHORT_ANSWER}",
                "answer": f"the right {kind}" if score else "$x_1$ is no formula",
                "references": [f"the right {kind}"],
                "score": score,
                "bits": None,
                "category": kind,
            }
            for i in range(6)
            for kind in KINDS
        ]
        samples = path.parent / "samples" / f"{path.stem}.jsonl"
        samples.parent.mkdir()
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def runs_of(folder):
    return {name: recipe.read_answers(folder / name, "unseen") for name in ("knows", "guesses")}


def test_types_of_question_take_turns_and_pictures_differ(folder):
    answers = runs_of(folder)["knows"]
    chosen = recipe.choose(answers, None, 4, 0)
    assert [answers[key].category for key in chosen] == ["category", "name", "category", "name"]
    assert len({answers[key].image for key in chosen}) == 4
    assert chosen == recipe.choose(answers, None, 4, 0) != recipe.choose(answers, None, 4, 1)
    assert len(recipe.choose(answers, None, 100, 0)) == 6


def test_the_sheet_says_what_each_model_answered(folder):
    runs = runs_of(folder)
    keys = [("3/name", f"Which name is it?{SHORT_ANSWER}")]
    figure = recipe.draw(runs, keys, recipe.credits(folder / "pictures"))
    left, right = figure.axes[:2]
    lines = [(text.get_text(), text.get_color()) for text in right.texts]
    assert lines == [
        ("Which name is it?", "black"),
        ("right    the right name", "black"),
        ("knows    the right name", recipe.RIGHT),
        ("guesses  $x_1$ is no formula", recipe.WRONG),
    ]
    assert left.get_title() == "me, CC0" and (left.images[0].get_array() == [120, 0, 0]).all()


def test_the_file_is_written(folder):
    file = folder / "new" / "sheet.png"
    flags = ["--pictures", str(folder / "pictures"), "--licences", "CC0", "--output_file", str(file)]
    recipe.main(["unseen", str(folder / "knows"), str(folder / "guesses"), *flags])
    with Image.open(file) as image:
        assert image.width == 1260  # 8.4 inches


def test_runs_of_one_name_are_refused(folder):
    (folder / "other").mkdir()
    (folder / "knows").rename(folder / "other" / "guesses")
    with pytest.raises(ValueError, match="2 runs are called 'guesses': .*guesses and .*other/guesses.*Rename one"):
        recipe.main(["unseen", str(folder / "guesses"), str(folder / "other" / "guesses")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["style"], "holds 0 results of 'style'"),
        (["unseen", "--licences", "CC0"], "without `--pictures`"),
        (["unseen", "--pictures", "pictures", "--licences", "MIT"], "None of the 12 questions.*other `--licences`"),
    ],
    ids=["benchmark", "no-index", "licence"],
)
def test_bad_input_is_named(folder, monkeypatch, flags, message):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message):
        recipe.main([flags[0], "knows", "guesses", *flags[1:]])
