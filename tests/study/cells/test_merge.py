"""Records of the same tower with other VLM seeds are averaged, part by part."""

import made_up_meter as meter
import pytest

from hf_clip_kd.study.cells.merge import averaged, blended, merged
from hf_clip_kd.study.cells.metrics import VQA


def test_parts_that_the_seed_changes_are_means():
    first = {"vqa": {"accuracy": 0.4}, "vqa_correct": [1, 0], "vqa_bits": None, "student": {"acc1": 0.2}}
    second = {"vqa": {"accuracy": 0.6}, "vqa_correct": [1, 1], "vqa_bits": [1.0, 2.0], "student": {"acc1": 0.9}}
    first["vqa_tables"], second["vqa_tables"] = {"Seeing": {"mmvp": 0.25}}, {"Seeing": {"mmvp": 0.75}}
    found = averaged([first, second])
    assert found["vqa_tables"] == {"Seeing": {"mmvp": 0.5}}
    assert found["vqa"] == {"accuracy": 0.5} and found["vqa_correct"] == [1, 0.5]
    assert found["vqa_bits"] is None and found["student"] == {"acc1": 0.2}


def test_steps_of_a_curve_stay_whole():
    first, second = ({"curve": {"steps": [1, 2], "accuracy": values}} for values in ([0.1, 0.2], [0.3, 0.6]))
    found = averaged([first, second])["curve"]
    assert found == {"steps": [1, 2], "accuracy": [0.2, 0.4]} and isinstance(found["steps"][0], int)


def test_groups_keep_the_order_of_their_first():
    found = merged([{"vqa": n, "key": n % 2} for n in (1, 2, 5)], key=lambda record: record["key"])
    assert [record["vqa"] for record in found] == [3, 2]


def test_a_study_has_a_cell_for_each_condition_and_seed():
    study = meter.study()
    assert len(study.runs) == len(meter.VLM_SEEDS) * len(study.cells)
    pair = [run for run in study.runs if run["id"].startswith("L-clip_kd-0-trained")]
    cell = next(cell for cell in study.cells if cell["id"] == pair[0]["id"])
    assert VQA.of(cell) == sum(map(VQA.of, pair)) / 2


def test_a_training_between_two_lengths_has_numbers_on_their_line():
    first = {"epochs": 1, "student": {"acc1": 0.2}, "vqa_correct": [1, 0], "vqa_images": [0, 0], "curve": None}
    second = {"epochs": 2, "student": {"acc1": 0.6}, "vqa_correct": [1, 1], "vqa_images": [0, 0], "curve": None}
    found = blended(first, second, 0.25)
    assert found["student"]["acc1"] == pytest.approx(0.3) and found["vqa_correct"] == [1, 0.25]
    assert (found["epochs"], found["vqa_images"], found["curve"]) == (1, [0, 0], None)
    assert blended(first, second, 0.0) == first
