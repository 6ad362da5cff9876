"""The base of all metrics: batches, and options that it refuses."""

import pytest
from vqa_benchmarks import compute, references

from hf_clip_kd.evaluation.vqa import METRICS


def test_add_batch_then_compute():
    metric = METRICS["gqa"]()
    for answer in ("yes", "No."):
        metric.add_batch(predictions=[answer], references=references("gqa", {"answers": [answer.lower().strip(".")]}))
    assert metric.compute(n_resamples=0)["accuracy"] == 1


def test_bits_are_means_of_those_that_there_are():
    rows = [{"category": "a"}, {"category": "a"}, {"category": "b"}, {"category": "c"}]
    answers, bits = ["yes", "no", "yes", "no"], [1.0, 4.0, 7.0, None]
    found = compute("gqa", answers, *rows, bits=bits, n_resamples=200)
    assert (found["answer_bits"], found["a/answer_bits"], found["b/answer_bits"]) == (4, 2.5, 7)
    assert "c/answer_bits" not in found and found["c/accuracy"] == 0
    low, high = found["confidence_intervals"]["answer_bits"]
    assert 1 <= low < 4 < high <= 7 and found["confidence_intervals"]["b/answer_bits"] == [7, 7]
    without = compute("gqa", answers, *rows, bits=[None] * 4, n_resamples=20)
    assert without == compute("gqa", answers, *rows, n_resamples=20)


def test_the_unit_is_the_image_where_questions_share_one():
    answers, rows = ["yes", "no"], [{}, {}]
    assert compute("gqa", answers, *rows, n_resamples=9)["bootstrap"]["unit"] == "sample"
    assert compute("gqa", answers, *rows, n_resamples=9, images=["a", "b"])["bootstrap"]["unit"] == "sample"
    found = compute("gqa", answers, *rows, n_resamples=9, images=["a", "a"])
    assert found["bootstrap"]["unit"] == "image" and found["confidence_intervals"]["accuracy"] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: compute("pope", ["yes"], {}, protocol="mine"),
            r"`protocol='mine'`.*\['llava', 'lmms_eval'\].*compute",
        ),
        (lambda: compute("pope", ["yes"], {"answers": []}), "Reference 0 of pope has no answer.*WRITERS"),
        (lambda: METRICS["vqav2"]().score([], []), "no answer of vqav2 to score.*Pass the samples"),
        (lambda: compute("gqa", ["yes"], {}, confidence_level=95), "`confidence_level=95`.*between 0 and 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
