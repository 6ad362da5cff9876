"""The page of a choice: its table, its sentences and its files."""

import json

import numpy as np
from made_up_choice import made_up_scores

from hf_clip_kd.study.choice.page import findings, page, ranking_table, write_choice
from hf_clip_kd.study.choice.ranking import rank

RANKING = rank(made_up_scores(alone=0.30, weak=0.301, first=0.70, second=0.702))


def test_the_table_has_a_row_for_each_teacher_and_the_student_alone():
    lines = ranking_table(RANKING).splitlines()
    assert (
        lines[0]
        == "| teacher | student: question probe | above alone | alike | teacher: question probe | s per pilot |"
    )
    assert [line.split(" | ")[0][2:] for line in lines[2:4]] == ["`second`", "`first`"] and len(lines) == 6
    (alone,) = [line for line in lines if line.startswith("| alone |")]
    assert alone.split(" | ")[2] == "–" and alone.split(" | ")[4] == "–"


def test_the_table_has_every_score_of_the_students_with_its_letters():
    scores = made_up_scores(alone=0.30, good=0.70)
    for each in scores:  # Labels give a score that never ranks.
        each.pilots["linear_probe"] = each.pilots["question_probe"]
    header, _, *rows = ranking_table(rank(scores)).splitlines()
    assert header.split(" | ")[4] == "student: linear probe"
    assert [row.split(" | ")[4].split()[-1] for row in rows] == ["a", "b"]


def test_sentences_name_the_best_and_those_that_do_not_help():
    best, alike, helpless = findings(RANKING)
    assert best.startswith("The student of `second` has the highest score, 70.")
    assert alike.startswith("`first` cannot be told from it with this much data.")
    assert helpless == "No clear gain over the student alone: `weak`."
    clear = findings(rank(made_up_scores(alone=0.5, bad=0.3, good=0.7)))
    assert clear[1:] == [
        "It is clearly better than that of each other teacher.",
        "Clearly worse than the student alone: `bad`.",
    ]


def test_pairs_that_cannot_be_told_apart_are_listed_with_what_would_tell_them():
    text = page(RANKING, [], None)
    alike = text.split("## What cannot be told apart with this much data")[1].split("##")[0]
    assert alike.count("\n- ") == 2 and "- `second` and `first`: +" in alike and "the student alone" in alike
    assert "## What failed" not in text


def test_all_files_are_written_and_the_json_has_no_nan(tmp_path):
    scores = made_up_scores(seeds=1, images=50, alone=0.3, weak=0.5)
    scores[1].own["linear_probe"] = np.array([[1.0]])  # A single image has no interval.
    text = write_choice(tmp_path, rank(scores), [("broken", "teacher: exit code 1: no such | file")], {"seeds": [0]})
    assert "<picture>" in (tmp_path / "choice.md").read_text() and "<picture>" not in text
    assert (
        "| `broken` | teacher: exit code 1: no such \\| file |" in text and "One seed tells no teachers apart" in text
    )
    record = json.loads((tmp_path / "choice.json").read_text())
    assert [row["name"] for row in record["teachers"]] == ["weak", "alone"] and record["best"] == ["weak"]
    assert record["teachers"][0]["own"]["linear_probe"]["low"] is None and list(record["failed"]) == ["broken"]
    forms = {path.name for path in (tmp_path / "figures").iterdir()}
    assert forms >= {"teachers.svg", "teachers-dark.svg", "teachers-narrow.svg", "teachers.png"}
