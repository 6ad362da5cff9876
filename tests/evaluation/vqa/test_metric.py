"""The base of all metrics: batches, and options that it refuses."""

import pytest
from vqa_benchmarks import compute, references

from hf_clip_kd.evaluation.vqa import METRICS


def test_add_batch_then_compute():
    metric = METRICS["gqa"]()
    for answer in ("yes", "No."):
        metric.add_batch(predictions=[answer], references=references("gqa", {"answers": [answer.lower().strip(".")]}))
    assert metric.compute(n_resamples=0)["accuracy"] == 1


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
