"""recipes/compare.py: one row per run, or one per name where there are several seeds."""

import json

import pytest
from answered_runs import write_run

from recipes import compare as recipe


def write(folder, name, acc1, dataset="x", file="x.json", metric="acc1"):
    results = folder / name / "results"
    results.mkdir(parents=True, exist_ok=True)
    result = {
        "dataset": dataset,
        "model": name,
        "pretrained": "",
        "task": "zeroshot_classification",
        "metrics": {metric: acc1},
    }
    (results / file).write_text(json.dumps(result | {"language": "en", "config": {}}))


def test_runs_side_by_side(tmp_path, capsys):
    for name, acc1 in (("zebra", 0.25), ("distilled", 0.5), ("teacher", 0.75)):
        write(tmp_path, name, acc1)
    rows = recipe.main([str(tmp_path)])
    assert [row["name"] for row in rows] == ["teacher", "distilled", "zebra"]
    lines = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    assert lines == [
        ["acc1", "mean"],
        ["teacher", "75.0", "75.0"],
        ["distilled", "50.0", "50.0"],
        ["zebra", "25.0", "25.0"],
    ]
    assert [row["acc1"] for row in json.loads((tmp_path / "summary.json").read_text())["rows"]] == [0.75, 0.5, 0.25]


def test_seeds_are_one_row(tmp_path, capsys):
    for name, acc1 in (
        ("alone", 0.1),
        ("shapes_from_48-0", 0.2),
        ("shapes_from_48-1", 0.3),
        ("shapes_from_48-2", 0.4),
    ):
        write(tmp_path, name, acc1)
    assert len(recipe.main([str(tmp_path)])) == 4
    alone, several = [line.split() for line in capsys.readouterr().out.strip().splitlines()[1:]]
    assert alone == ["alone", "10.0", "10.0"]
    assert several == ["shapes_from_48", "30.0", "±", "10.0", "30.0", "±", "10.0"]


def test_differences_are_paired_by_seed(tmp_path, capsys):
    for name, scores in {"plain": (0.1, 0.3, 0.5), "drawn": (0.11, 0.33, 0.52), "other": (0.9,)}.items():
        for seed, acc1 in enumerate(scores):
            write(tmp_path, f"{name}-{seed}", acc1)
    recipe.main([str(tmp_path)])
    *_, other, plain, difference = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    # The spread of one row is 20 points. That of the differences 1, 3 and 2 is 1.
    assert other == ["other", "90.0", "90.0"] and plain[:4] == ["plain", "30.0", "±", "20.0"]
    assert difference == ["plain", "less", "drawn", *["-2.0", "±", "1.0"] * 2]


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(ValueError, match="holds no run with results.*make demo"):
        recipe.main([str(tmp_path)])


def test_a_run_without_a_result_is_no_row(tmp_path):
    (tmp_path / "stopped" / "results").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no run with results"):
        recipe.main([str(tmp_path)])
    write(tmp_path, "alone", 0.5)
    assert [row["name"] for row in recipe.main([str(tmp_path)])] == ["alone"]


def test_two_data_sets_of_one_task_have_columns_of_their_own(tmp_path, capsys):
    write(tmp_path, "alone", 0.1, dataset="cifar10/test")
    write(tmp_path, "distilled", 0.2, dataset="cifar10/test")
    write(tmp_path, "distilled", 0.4, dataset="a_data_set_with_a_long_name/test", file="y.json")
    for name in ("alone", "distilled"):
        write(tmp_path, name, 0.5, file="z.json", metric="image_retrieval_recall@1")
    rows = recipe.main([str(tmp_path)])
    assert [row.get("cifar10/test/acc1") for row in rows] == [0.1, 0.2] and "acc1" not in rows[0]
    assert rows[1]["a_data_set_with_a_long_name/test/acc1"] == 0.4
    write(tmp_path, "alone", 0.3, dataset="a_data_set_with_a_long_name/test", file="y.json")
    capsys.readouterr()
    recipe.main([str(tmp_path)])
    header, alone, distilled = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    assert set(header[:2]) == {"cifar10/test/acc1", "a_data_set_with_a_long_name/test/acc1"}
    assert header[2:] == ["image_retrieval_recall@1", "mean"]
    assert sorted(alone[1:]) == ["10.0", "30.0", "30.0", "50.0"] and distilled[0] == "distilled"


def test_two_results_of_a_metric_on_the_same_data_are_refused(tmp_path):
    write(tmp_path, "alone", 0.1)
    write(tmp_path, "alone", 0.2, file="y.json")
    with pytest.raises(ValueError, match="alone/results' holds 'x/acc1' twice.*one result.*Move the others"):
        recipe.main([str(tmp_path)])


def test_runs_without_a_common_column(tmp_path):
    write_run(tmp_path / "alone", [1, 0])
    (tmp_path / "summary.json").write_text('{"rows": [{"name": "alone", "accuracy": 0.5}]}')
    with pytest.raises(ValueError, match="runs alone share none of acc1.*same data.*compare.py FIRST SECOND"):
        recipe.main([str(tmp_path)])
    assert "folder" not in (tmp_path / "summary.json").read_text()


def test_a_summary_of_another_recipe_stays(tmp_path, capsys):
    write(tmp_path, "alone", 0.5)
    for there in ({"rows": [{"name": "alone", "accuracy": 0.5}]}, {"cells": []}):
        (tmp_path / "summary.json").write_text(json.dumps(there))
        recipe.main([str(tmp_path)])
        assert json.loads((tmp_path / "summary.json").read_text()) == there
        assert "summary.json is of another recipe and stays" in capsys.readouterr().out
    (tmp_path / "summary.json").unlink()
    for acc1 in (0.5, 0.6):  # Its own is replaced.
        write(tmp_path, "alone", acc1)
        recipe.main([str(tmp_path)])
        assert json.loads((tmp_path / "summary.json").read_text())["rows"][0]["acc1"] == acc1


def test_two_models_are_compared_question_by_question(tmp_path, capsys):
    """The second is right where the first is, and in 12 questions more, of 20 images with two questions each."""
    images = [number // 2 for number in range(40)]
    first = write_run(tmp_path / "first", [i % 4 == 0 for i in range(40)], images=images)
    second = write_run(tmp_path / "second", [i % 4 == 0 or i < 16 for i in range(40)], images=images)
    blind = write_run(tmp_path / "blind", [i >= 38 for i in range(40)], images=images)
    (accuracy,) = recipe.main([str(first), str(second)])
    assert (accuracy.first, accuracy.second) == (25, 55) and accuracy.clear
    text = capsys.readouterr().out
    assert "shapes: 40 questions about 20 images" in text and "+30.00" in text
    assert "answered better by the first alone: 0, by the second: 12" in text
    samples = second / "results/samples/shapes_m_vqa_llava.jsonl"
    recipe.main([str(first), str(samples), "--leave_out_blind", str(blind)])
    assert "38 questions about 19 images\nleft out, answered right without a picture: 2" in capsys.readouterr().out


def test_models_that_were_asked_different_things(tmp_path):
    first, second = (write_run(tmp_path / name, [1, 0], dataset=name) for name in ("gqa", "pope"))
    with pytest.raises(ValueError, match="share no question.*same questions.*Pass two runs"):
        recipe.main([str(first), str(second)])
    with pytest.raises(ValueError, match="It needs two models"):
        recipe.main([str(first), "--leave_out_blind", str(second)])


def test_a_benchmark_that_is_only_exported_is_left_out(tmp_path, capsys):
    folders = []
    for name in ("first", "second"):
        folders.append(str(write_run(tmp_path / name, [None, None], dataset="mmvet", main_metric=None)))
    with pytest.raises(ValueError, match="mmvet.*has no score of question '0'.*answers are known"):
        recipe.main(folders)
    files = [str(path) for path in sorted(tmp_path.glob("*/results/samples/*"))]
    with pytest.raises(ValueError, match="mmvet.*has no score of question '0'"):
        recipe.main(files)
    for folder, scores in zip(folders, ([1, 0], [1, 1]), strict=True):
        write_run(tmp_path / folder, scores, images=[0, 1])
    (accuracy,) = recipe.main(folders)
    assert (accuracy.first, accuracy.second) == (50, 100)
    text = capsys.readouterr().out
    assert text.count("mmvet is left out: its answers are exported") == 1 and "shapes: 2 questions" in text


def test_the_number_of_papers_is_compared(tmp_path, capsys):
    """MMVP asks two questions with one answer each. The second model is right in whole pairs."""
    letters = ["A" if i % 2 else "B" for i in range(40)]
    answers = {"first": ["A"] * 40, "second": letters[:20] + ["A"] * 20}
    about = {"benchmark": "mmvp", "protocol": "llava", "main_metric": "pair_accuracy"}
    folders = []
    for name, given in answers.items():
        asked = [
            {
                "prompt": f"{i}",
                "answer": own,
                "references": [right],
                "choices": ["open", "shut"],
                "unit": f"pair {i // 2}",
            }
            for i, (own, right) in enumerate(zip(given, letters, strict=True))
        ]
        scores = [own == right for own, right in zip(given, letters, strict=True)]
        folders.append(str(write_run(tmp_path / name, scores, dataset="mmvp", questions=asked, **about)))
    accuracy, quoted = recipe.main(folders)
    assert (accuracy.first, accuracy.second) == (50, 75)
    assert (quoted.what, quoted.first, quoted.second) == ("pair_accuracy", 0, 50)
    text = capsys.readouterr().out
    assert "mmvp: 40 questions in 20 pairs" in text and "so many pairs show" in text


def test_a_blind_run_of_another_benchmark_is_refused(tmp_path):
    first, second = (str(write_run(tmp_path / name, [1, 0])) for name in "ab")
    blind = write_run(tmp_path / "blind", [1, 0], dataset="gqa")
    with pytest.raises(
        ValueError, match="`--leave_out_blind .*blind` has no answer to a question of 'shapes'.*Pass such"
    ):
        recipe.main([first, second, "--leave_out_blind", str(blind)])
