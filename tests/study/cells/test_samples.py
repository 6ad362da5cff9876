"""Files of answers: found beside their results, and read whole."""

import json

import pytest
from answered_runs import write_run

from hf_clip_kd.study.cells.samples import Answered, read_answers, read_samples, samples_files, single_model


def test_a_run_and_its_results_name_the_same_files(tmp_path):
    run = write_run(tmp_path / "run", [1, 0], images=[0, 1])
    for folder in (run, run / "results"):
        (found,) = samples_files(folder)
        assert found.record["dataset"] == "shapes" and found.path.parent.name == "samples"
    assert samples_files(tmp_path) == []


def test_every_field_is_read(tmp_path):
    row = {"question_id": 7, "prompt": "red?", "score": None, "bits": 0.5, "image": "a.jpg", "answer": "no"}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row | {"references": ["yes", 3], "category": "color"}) + "\n")
    answered = Answered(None, 0.5, "a.jpg", "no", ("yes", "3"), "color")
    assert read_answers(path) == {("7", "red?"): answered}
    path.write_text(json.dumps(row | {"choices": ["no", "yes"], "unit": "pair 3"}) + "\n")
    answered = Answered(None, 0.5, "a.jpg", "no", choices=("no", "yes"), unit="pair 3")
    assert read_answers(path) == {("7", "red?"): answered}


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="holds no answers"):
        read_samples(tmp_path)
    path = tmp_path / "x.jsonl"
    path.write_text('{"question_id": 1, "prompt": "red?", "score": null}\n')
    with pytest.raises(ValueError, match="no score of question '1'"):
        read_samples(path)


def test_a_folder_of_several_models_is_no_model(tmp_path):
    write_run(tmp_path, [1, 0])
    write_run(tmp_path, [1, 1], model="other")
    with pytest.raises(ValueError, match="of several models, 'm' and 'other'.*Pass a file"):
        read_samples(tmp_path)


def test_two_protocols_of_one_benchmark_are_named(tmp_path):
    write_run(tmp_path, [1, 0])
    write_run(tmp_path, [1, 1], task="vqa_lmms_eval")
    with pytest.raises(ValueError, match="of several tasks, 'vqa_llava' and 'vqa_lmms_eval'.*Pass a file"):
        read_samples(tmp_path)


def test_a_file_alone_has_the_result_beside_it(tmp_path):
    write_run(tmp_path, [1, 0], main_metric="accuracy")
    (path,) = tmp_path.glob("results/samples/*")
    assert single_model(path)[""].record["main_metric"] == "accuracy"
    moved = path.rename(tmp_path / "moved.jsonl")
    assert single_model(moved)[""].record == {}
