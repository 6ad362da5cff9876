"""Answers of several models to the same questions, brought together."""

import pytest
from answered_runs import write_run

from hf_clip_kd.study.browse.questions import drawn, questions_of, read_runs


def test_answers_meet_at_their_question(tmp_path):
    write_run(tmp_path / "a", [1, 0, 1], model="runs/a", questions=[{"answer": text} for text in "xyz"])
    write_run(tmp_path / "b", [0, 1], model="runs/b")
    write_run(tmp_path / "b", [1], model="runs/b", dataset="gqa")
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    assert [run.name for run in runs] == ["a", "b"]
    questions = questions_of(runs)
    assert [(q.benchmark, q.name) for q in questions] == [
        ("shapes", "0"),
        ("shapes", "1"),
        ("shapes", "2"),
        ("gqa", "0"),
    ]
    assert [[a and a.score for a in q.answers] for q in questions] == [[1, 0], [0, 1], [1, None], [None, 1]]
    assert [q.first.answer for q in questions] == ["x", "y", "z", ""]


def test_a_folder_of_results_has_a_run_for_each_model(tmp_path):
    write_run(tmp_path, [1], model="outputs/x/student")
    write_run(tmp_path, [0], model="outputs/y/student")
    write_run(tmp_path, [0], model="lab/other")
    assert [run.name for run in read_runs([tmp_path / "results"])] == ["other", "x/student", "y/student"]


def test_models_of_one_name_have_their_folder(tmp_path):
    folders = [write_run(tmp_path / name, [1]) for name in ("first", "second")]
    assert [run.name for run in read_runs(folders)] == ["first/m", "second/m"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["run", "nothing"], "nothing' holds no answers.*Run `recipes/evaluate_vlm.py`"),
        (["run", "run"], "run' is named twice.*Name each folder once"),
        (["run", "run/results"], "run/results' is named twice.*Name each folder once"),
    ],
)
def test_bad_folders_are_named(tmp_path, folders, message):
    write_run(tmp_path / "run", [1])
    with pytest.raises(ValueError, match=message):
        read_runs([tmp_path / name for name in folders])


def test_the_same_questions_are_drawn_each_time_in_their_order(tmp_path):
    questions = questions_of(read_runs([write_run(tmp_path, [0] * 50)]))
    some = drawn(questions, 10)
    places = [questions.index(question) for question in some]
    assert len(some) == 10 and places == sorted(set(places)) and places != list(range(10))
    assert drawn(questions, 10) == some and drawn(questions, 50) == questions


def test_pairs_are_drawn_whole(tmp_path):
    asked = [{"unit": f"pair {i // 2}"} for i in range(50)]
    questions = questions_of(read_runs([write_run(tmp_path, [0] * 50, questions=asked)]))
    some = drawn(questions, 11)
    assert len(some) == 10 and {q.first.unit for q in some[::2]} == {q.first.unit for q in some[1::2]}


def test_outcomes_of_dual_encoders_are_questions_too(tmp_path):
    about = {"task": "image_caption_selection", "benchmark": "sugarcrepe"}
    write_run(tmp_path, [1, 0], dataset="sugarcrepe/test", **about)
    assert [question.benchmark for question in questions_of(read_runs([tmp_path]))] == ["sugarcrepe/test"] * 2
