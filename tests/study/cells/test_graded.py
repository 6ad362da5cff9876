"""Types of question that a study leaves out: all its VQA numbers are then those of the others."""

import made_up_meter as meter
import pytest

from hf_clip_kd.study.cells.graded import area, graded, type_counts
from hf_clip_kd.study.cells.metrics import AREA, BITS, QUESTION_PROBE, VQA

WHY = {"texture_at": "at chance"}


def record():
    """Return a cell with one question of colour, and three of texture of which one is right."""
    return {
        "vqa": {
            "accuracy": 0.5, "answer_bits": 2.0, "color_at/accuracy": 1.0, "texture_at/accuracy": 1 / 3,
            "count/accuracy": 0.0, "color_at/answer_bits": 0.5, "texture_at/answer_bits": 2.5,
            "count/answer_bits": 4.5,
        },
        "vqa_correct": [1, 0, 1, 0, 0],
        "vqa_types": ["color_at", "texture_at", "texture_at", "texture_at", "count"],
        "representation": {"vqa": {"question_probe": 0.5, "question_probe/color_at": 0.9,
                                   "question_probe/texture_at": 0.1, "question_probe/count": 0.7}},
    }  # fmt: skip


def test_means_are_weighted_by_the_questions_of_each_type():
    found = graded(record(), WHY, {"color_at": 1, "texture_at": 3, "count": 3})
    assert found["vqa"]["accuracy"] == pytest.approx(0.25) and found["vqa"]["answer_bits"] == pytest.approx(3.5)
    assert found["vqa"]["texture_at/accuracy"] == 1 / 3  # It is still in the table of types.
    assert found["vqa_correct"] == [1, 0] and found["vqa_types"] == ["color_at", "count"]
    assert found["representation"]["vqa"]["question_probe"] == pytest.approx(0.8)


def test_single_questions_without_a_type_cannot_be_left_out():
    without = {name: value for name, value in record().items() if name != "vqa_types"}
    assert graded(without, WHY, {})["vqa_correct"] is None
    assert graded(without, {}, {}) is without


def test_the_area_is_the_mean_height_over_the_logarithm_of_the_steps():
    assert area([10, 100, 1000], [0, 1, 1]) == pytest.approx((0.5 + 1) / 2)
    assert area([10, 100, 100_000], [0, 1, 1]) == pytest.approx((0.5 + 3) / 4)
    assert area([5], [0.3]) == 0.3


def test_every_number_of_a_study_is_that_of_the_graded_types():
    whole, study = meter.study(), meter.study(ungraded=tuple(WHY.items()))
    kept = ("color_at", "shape_at", "count")
    teacher = (study.record["teachers"]["L"], whole.record["teachers"]["L"])
    for found, before in [(study.cells[0], whole.cells[0]), (study.runs[0], whole.runs[0]), teacher]:
        mean = {
            name: sum(before["vqa"][f"{kind}/{name}"] for kind in kept) / 3 for name in ("accuracy", "answer_bits")
        }
        assert VQA.of(found) == pytest.approx(100 * mean["accuracy"])
        assert BITS.of(found) == pytest.approx(mean["answer_bits"])
        types = before["curve"]["types"]
        last = sum(types[kind]["accuracy"][0] for kind in kept) / 3
        assert found["curve"]["accuracy"][0] == pytest.approx(last) and AREA.of(found) != AREA.of(before)
        assert len(found["vqa_correct"]) == meter.QUESTIONS * 3 / 4
    assert study.record["references"]["oracle"]["accuracy"] == pytest.approx((1 + 0.95 + 1) / 3)
    assert QUESTION_PROBE.of(study.cells[0]) > QUESTION_PROBE.of(whole.cells[0])


def test_types_are_counted_once():
    assert type_counts([{}, {"vqa_types": ["a", "b", "a"]}, {"vqa_types": ["a"]}]) == {"a": 2, "b": 1}


def test_an_unknown_type_is_an_error():
    with pytest.raises(ValueError, match=r"names \['colour'\].*types of its questions: \['color_at'.*Correct it"):
        meter.study(ungraded=(("colour", "why"),))


def test_benchmarks_that_are_left_out_are_no_part_of_the_mean():
    vqa = {"accuracy": 0.4, "mmvp/accuracy": 0.9, "mmvp/main": 0.2, "blink/main": 0.6, "blink/accuracy": 0.6}
    found = graded({"vqa": vqa}, {"mmvp": "too hard"}, {})["vqa"]
    assert found["accuracy"] == pytest.approx(0.6) and found["mmvp/main"] == 0.2
