"""recipes/maintenance/pictures_tables.py: a made-up study and made-up answers give the numbers that were put in."""

import json
from dataclasses import replace

import made_up_study
import pytest
from answered_runs import write_run

from recipes.maintenance import pictures_tables as recipe

SHARES = {"style/acc1": 0.1, "unseen/acc1": 0.2, "category/mean_per_class_recall": 0.3}
SHARES |= {"image_retrieval_recall@10": 0.4, "text_retrieval_recall@10": 0.5}
SHARES |= {"photographs/image_retrieval_recall@10": 0.6, "photographs/text_retrieval_recall@10": 0.7}
NAMES = ["together", "differences", "questions", "exists"]
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
    for teacher, gain in (("S", -0.01), ("L", 0.02), ("vision", 0.0)):
        some += [cell(teacher, "clip_kd", "x4", seed, gain) for seed in (0, 1)]
    some += [cell("L", "clip_kd", "x1", 0, 0.03)]
    objectives = {"clip_kd": "clip_kd", "tokens": {"clip_kd": 1.0, "patch": 40.0}, "alone": {"clip": 1.0}}
    teachers = {name: {"student": dict.fromkeys(SHARES, share)} for name, share in (("S", 0.25), ("L", 0.75))}
    teachers["vision"] = {"student": {}}
    config = {"objectives": objectives, "reference_teacher": "L", "vlm": []}
    return made_up_study.write(tmp_path / "study", some, config=config, teachers=teachers, references={})


@pytest.fixture
def towers(tmp_path):
    """
    The right answers to two questions each about four pictures: two of `blind`, four of `alone`, six of `distilled`.

    The first question about a picture asks for its name, the second for its category, which is food three times. The
    yes/no questions have both answers.
    """
    scores = {"teacher": [1] * 8, "alone": [1, 1, 1, 1, 0, 0, 0, 0], "blind": [1, 1, 0, 0, 0, 0, 0, 0]}
    scores["distilled"] = [1, 1, 1, 1, 1, 0, 1, 0]
    folder = tmp_path / "towers"
    for name, right in scores.items():
        images = [i // 2 for i in range(8)]
        bits = [3.0 - score for score in right]
        for dataset in ("style", "style_exists"):
            kinds = [{"category": "random", "references": [("yes", "no")[i % 2]]} for i in range(8)]
            if dataset == "style":
                names = [{"category": "name", "references": [f"name {i}"]} for i in range(4)]
                food = [{"category": "category", "references": [("food", "tools")[i == 3]]} for i in range(4)]
                kinds = [kind for pair in zip(names, food, strict=True) for kind in pair]
            run = write_run(
                folder / name, right, model=name, dataset=dataset, images=images, bits=bits, questions=kinds
            )
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
    assert found[1][4] == "+2.0 [+2.0, +2.0]"
    # Seeds of 10 and 11: the mean, and Student's interval with one degree of freedom, 12.7 standard errors.
    assert [cell.split()[0] for cell in found[1][2:4]] == ["10.5", "12.5"]
    low, high = map(float, found[1][2].split(" ", 1)[1].strip("[]").split(", "))
    assert low + high == pytest.approx(21, abs=0.11) and (high - low) / 2 == pytest.approx(12.7 * 0.5, rel=0.1)
    assert [row[2].split()[0] for row in found[1::2]] == ["10.5", "20.5", "30.5", "40.5", "50.5", "60.5", "70.5"]


def test_teachers_stand_beside_their_students(study):
    header, _, *found = rows(recipe.teachers(recipe.read_study(study)))
    assert header == ["score", "teacher", "its own", "`clip_kd` over `alone`"]
    assert found[:3] == [
        ["style, top 1", "`S`", "25.0", "−1.0 [−1.0, −1.0]"],
        ["style, top 1", "`L`", "75.0", "+2.0 [+2.0, +2.0]"],
        ["style, top 1", "`vision`", "–", "+0.0 [+0.0, +0.0]"],  # It has no texts.
    ]


def test_towers_that_see_are_compared_with_the_blind_one(towers):
    read = recipe.read_answers(towers)
    header, _, *found = rows(recipe.answers(read, closed=False))
    assert header == ["test", "tower", "accuracy", "over `blind`", "answer bits", "over `blind`"]
    assert [row[:3] for row in found] == [
        ["style, category", "chance", "75.0"],
        ["style, category", "`blind`", "25.0"],
        ["style, category", "`alone`", "50.0"],
        ["style, category", "`distilled`", "50.0"],
        ["style, category", "`teacher`", "100.0"],
        ["style, name", "chance", "25.0"],
        ["style, name", "`blind`", "25.0"],
        ["style, name", "`alone`", "50.0"],
        ["style, name", "`distilled`", "100.0"],
        ["style, name", "`teacher`", "100.0"],
    ]
    assert found[0][3:] == ["–", "–", "–"] and found[1][3:] == ["–", "2.75", "–"]
    assert found[4][3].startswith("+75.0 [+") and found[4][4:] == ["2.00", found[4][5]]
    assert found[4][5].startswith("−0.75 [−")
    header, _, *found = rows(recipe.answers(read, closed=True))
    assert header[2:4] == ["F1", "says yes"]
    assert found[0] == ["style", "chance", "–", "–", "50.0", "–", "–", "–"]
    assert found[2][:5] == ["style", "`alone`", "60.0", "90.0", "50.0"]


def test_chance_in_all_tests_is_that_of_each_test(towers):
    """Two tests whose commonest answers differ: nobody who knows the question alone gives both."""
    read = recipe.read_answers(towers)
    asked = read.asked[recipe.BLIND]["style"]
    tools = {key: replace(found, references=("tools",)) for key, found in asked.items() if found.category != "name"}
    both = recipe.Answers(
        {tower: tests | {"unseen": tools} for tower, tests in read.asked.items()},
        {tower: tests | {"unseen": {}} for tower, tests in read.metrics.items()},
    )
    assert both.chance("category") == (75 + 100) / 2 and both.chance("yes/no") == 50
    assert recipe.commonest("choice", asked) == 25


WHAT = ["name: answer bits", "category: accuracy", "category: answer bits", "yes/no: accuracy", "yes/no: answer bits"]


def test_all_tests_together(towers):
    header, _, *found = rows(recipe.together(recipe.read_answers(towers)))
    assert header == ["tower", *(part for title in WHAT for part in (title, "over `blind`"))]
    assert found[0] == ["chance", "–", "–", "75.0", "–", "–", "–", "50.0", "–", "–", "–"]
    assert found[1] == ["`blind`", "2.75", "–", "25.0", "–", "2.75", "–", "25.0", "–", "2.75", "–"]
    assert [cell.split()[0] for cell in found[3]] == [
        *("`distilled`", "2.00", "−0.75", "50.0", "+25.0", "2.50", "−0.25", "75.0", "+50.0", "2.25", "−0.50")
    ]
    assert [row[0] for row in found] == ["chance", "`blind`", "`alone`", "`distilled`", "`teacher`"]


def test_a_question_of_two_tests_counts_twice(towers):
    """Another test asks the same about the same pictures: the numbers stay, and their intervals are no narrower."""
    before = recipe.read_answers(towers)
    asked = {tower: tests | {"other": tests["style"]} for tower, tests in before.asked.items()}
    numbers = {tower: tests | {"other": tests["style"]} for tower, tests in before.metrics.items()}
    twice = recipe.Answers(asked, numbers)
    assert len(twice.pooled()["name"]["blind"]) == 2 * len(before.pooled()["name"]["blind"]) == 8
    assert recipe.together(twice) == recipe.together(before)


def test_students_are_compared_with_alone_and_with_their_teacher(towers):
    header, _, *found = rows(recipe.differences(recipe.read_answers(towers)))
    assert header == ["towers", *WHAT]
    assert [[row[0], *(cell.split()[0] for cell in row[1:])] for row in found] == [
        ["`distilled` over `alone`", "−0.50", "+0.0", "+0.00", "+25.0", "−0.25"],
        ["`teacher` over `distilled`", "+0.00", "+50.0", "−0.50", "+25.0", "−0.25"],
    ]
    # Two of four pictures differ, by a whole answer: the interval is that of pictures, not of questions.
    assert all(" [" in cell for row in found for cell in row[1:])


def test_a_tower_that_was_killed_is_named(towers):
    for file in (towers / "distilled/results").rglob("style_exists*"):
        file.unlink()
    with pytest.raises(ValueError, match="distilled' has no answers to 'style_exists', and 'blind' has.*Run the"):
        recipe.read_answers(towers)


def test_tables_go_between_their_markers(study, towers, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    for page, names in zip(recipe.PAGES, (("lengths", "teachers"), NAMES), strict=True):
        old = {name: "" if name == "differences" else "old\n" for name in names}
        text = [f"a\n<!-- pictures: {name}, by a command -->\n{old[name]}<!-- end of pictures -->\n" for name in names]
        (tmp_path / page).write_text("".join(text))
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    nowhere = str(tmp_path / "none")
    flags = ["--study", str(study), "--write"]
    for _ in range(2):
        made = recipe.main([*flags, "--towers", nowhere])
        assert list(made) == ["lengths", "teachers"]
        page = (tmp_path / recipe.PAGES[0]).read_text()
        assert f"by a command -->\n{made['teachers']}\n<!-- end" in page and "old" not in page
        assert (tmp_path / recipe.PAGES[1]).read_text() == "".join(text)
    recipe.main([*flags, "--towers", str(towers)])
    assert "old" not in (tmp_path / recipe.PAGES[1]).read_text()


def test_pages_have_a_place_for_each_table():
    found = [found[2] for page in recipe.PAGES for found in recipe.MARKED.finditer((recipe.ROOT / page).read_text())]
    assert found == ["lengths", "teachers", *NAMES]


def test_bad_folders_are_named(tmp_path):
    flags = ["--study", str(tmp_path / "a"), "--towers", str(tmp_path / "b")]
    with pytest.raises(ValueError, match="neither a study in '.*a' nor a folder '.*b'.*pictures.yaml"):
        recipe.main(flags)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"holds answers of \[\].*must have those of `blind`.*pictures_lora.yaml"):
        recipe.main(flags)
