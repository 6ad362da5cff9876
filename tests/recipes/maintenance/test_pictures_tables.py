"""recipes/maintenance/pictures_tables.py: a made-up study and made-up answers give the numbers that were put in."""

import json

import made_up_study
import pytest
from answered_runs import write_run

from recipes.maintenance import pictures_tables as recipe

SHARES = {"style/acc1": 0.1, "unseen/acc1": 0.2, "category/mean_per_class_recall": 0.3}
SHARES |= {"image_retrieval_recall@10": 0.4, "text_retrieval_recall@10": 0.5}
STEPS = {"x1": 300, "x4": 1200}


def cell(teacher, objective, duration, seed, gain):
    made = made_up_study.cell(None, "clip", duration, "plain", seed)
    made["axes"] |= {"teacher": teacher, "objective": objective, "language_model": None, "reading": None}
    student = {metric: share + gain + seed / 100 for metric, share in SHARES.items()}
    name = f"{teacher}-{objective}-{duration}-{seed}"
    return made | {"id": name, "steps": STEPS[duration], "student": student, "vqa": {}}


@pytest.fixture
def study(tmp_path):
    """Students of S lose a point, those of L gain two and three. `x1` has a single seed."""
    some = [cell(None, "alone", "x4", seed, 0) for seed in (0, 1)] + [cell(None, "alone", "x1", 0, 0)]
    for teacher, gain in (("S", -0.01), ("L", 0.02)):
        some += [cell(teacher, "clip_kd", "x4", seed, gain) for seed in (0, 1)]
    some += [cell("L", "clip_kd", "x1", 0, 0.03)]
    objectives = {"clip_kd": "clip_kd", "tokens": {"clip_kd": 1.0, "patch": 40.0}, "alone": {"clip": 1.0}}
    teachers = {name: {"student": dict.fromkeys(SHARES, share)} for name, share in (("S", 0.25), ("L", 0.75))}
    config = {"objectives": objectives, "reference_teacher": "L", "vlm": []}
    return made_up_study.write(tmp_path / "study", some, config=config, teachers=teachers, references={})


@pytest.fixture
def towers(tmp_path):
    """`blind` is right in a quarter, `alone` in half and the teacher in all of the questions about four pictures."""
    scores = {"teacher": [1] * 8, "alone": [1, 1, 1, 1, 0, 0, 0, 0], "blind": [1, 1, 0, 0, 0, 0, 0, 0]}
    folder = tmp_path / "towers"
    for name, right in scores.items():
        images = [i // 2 for i in range(8)]
        bits = [3.0 - score for score in right]
        for dataset in ("style", "style_exists"):
            run = write_run(folder / name, right, model=name, dataset=dataset, images=images, bits=bits)
        (result,) = (run / "results").glob("style_exists*.json")
        record = json.loads(result.read_text())
        result.write_text(json.dumps(record | {"metrics": {"accuracy": 0.5, "f1": 0.6, "yes_ratio": 0.9}}))
    return folder


def rows(table):
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_lengths_have_the_gains_that_were_put_in(study):
    header, _, *found = rows(recipe.lengths(recipe.read_study(study)))
    assert header == ["score", "steps", "`alone`", "`clip_kd`", "over `alone`"]
    assert len(found) == 2 * len(SHARES)
    assert found[0] == ["style, top 1", "300", "10.0", "13.0", "+3.0"]  # One seed has no interval.
    assert found[1] == ["style, top 1", "1,200", "10.5", "12.5", "+2.0 [+2.0, +2.0]"]
    assert [row[2] for row in found[1::2]] == ["10.5", "20.5", "30.5", "40.5", "50.5"]


def test_teachers_stand_beside_their_students(study):
    header, _, *found = rows(recipe.teachers(recipe.read_study(study)))
    assert header == ["score", "teacher", "its own", "`clip_kd` over `alone`"]
    assert found[:2] == [
        ["style, top 1", "`S`", "25.0", "−1.0 [−1.0, −1.0]"],
        ["style, top 1", "`L`", "75.0", "+2.0 [+2.0, +2.0]"],
    ]


def test_towers_that_see_are_compared_with_the_blind_one(towers):
    header, _, *found = rows(recipe.answers(towers, closed=False))
    assert header == ["test", "tower", "accuracy", "over `blind`", "answer bits", "over `blind`"]
    assert [row[:3] for row in found] == [
        ["style", "`blind`", "25.0"], ["style", "`alone`", "50.0"], ["style", "`teacher`", "100.0"],
    ]  # fmt: skip
    assert found[0][3:] == ["–", "2.75", "–"]
    assert found[2][3].startswith("+75.0 [+") and found[2][4:] == ["2.00", found[2][5]]
    assert found[2][5].startswith("−0.75 [−")
    header, _, *found = rows(recipe.answers(towers, closed=True))
    assert header[2:4] == ["F1", "says yes"] and found[1][:5] == ["style", "`alone`", "60.0", "90.0", "50.0"]


def test_tables_go_between_their_markers(study, towers, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    for page, names in zip(recipe.PAGES, (("lengths", "teachers"), ("questions", "exists")), strict=True):
        text = "".join(
            f"a\n<!-- pictures: {name}, by a command -->\nold\n<!-- end of pictures -->\n" for name in names
        )
        (tmp_path / page).write_text(text)
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    flags = ["--study", str(study), "--towers", str(tmp_path / "none"), "--write"]
    for _ in range(2):
        made = recipe.main(flags)
        assert list(made) == ["lengths", "teachers"]
        text = (tmp_path / recipe.PAGES[0]).read_text()
        assert f"by a command -->\n{made['teachers']}\n<!-- end" in text and "old" not in text
        assert (tmp_path / recipe.PAGES[1]).read_text().count("\nold\n") == 2
    recipe.main([*flags[:2], "--towers", str(towers), "--write"])
    assert "old" not in (tmp_path / recipe.PAGES[1]).read_text()


def test_pages_have_a_place_for_each_table():
    found = [found[2] for page in recipe.PAGES for found in recipe.MARKED.finditer((recipe.ROOT / page).read_text())]
    assert found == ["lengths", "teachers", "questions", "exists"]


def test_bad_folders_are_named(tmp_path):
    flags = ["--study", str(tmp_path / "a"), "--towers", str(tmp_path / "b")]
    with pytest.raises(ValueError, match="neither a study in '.*a' nor a folder '.*b'.*pictures.yaml"):
        recipe.main(flags)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"holds answers of \[\].*must have those of `blind`.*pictures_lora.yaml"):
        recipe.main(flags)
