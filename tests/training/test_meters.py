"""Meters: means by name since the last log, of a training and of an evaluation."""

import pytest
import torch

from hf_clip_kd.training.meters import Meters


def numbers(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_read_gives_means_since_the_last_log():
    meters = Meters()
    meters.add("train", numbers(a=1.0, b=5.0))
    meters.add("train", numbers(a=3.0))
    assert meters.read({"loss": 0.0}) == {"a": 2.0, "b": 5.0}
    assert meters.read({"loss": 0.0}) == {}


def test_micro_batches_count_by_their_share():
    meters = Meters()
    for value, share in ((1.0, 1.0), (4.0, 0.5), (8.0, 0.5)):
        meters.add("train", numbers(a=value), share)
    assert meters.read({"loss": 0.0})["a"] == pytest.approx((1 + 2 + 4) / 2)


def test_other_logs_leave_the_numbers_where_they_are():
    meters = Meters()
    meters.add("train", numbers(a=1.0))
    meters.add("eval", numbers(a=7.0))
    assert meters.read({"train_runtime": 1.0}) == meters.read({"eval_loss": 0.0}) == {}
    assert meters.read({"loss": 0.0}) == {"a": 1.0}


def test_batches_of_an_evaluation_count_by_their_share():
    meters = Meters()
    meters.add("eval", numbers(a=100.0))
    meters.begin_evaluation()
    for value, share in ((1.0, 8), (4.0, torch.tensor(2.0))):
        meters.add("eval", numbers(a=value), share)
        meters.count(5)
    means, rows = meters.read_evaluation(torch.device("cpu"))
    assert means["a"] == pytest.approx((8 * 1 + 2 * 4) / 10) and rows == 10
    assert meters.read_evaluation(torch.device("cpu")) == ({}, 0)


def test_a_skipped_step_is_forgotten():
    meters = Meters()
    for value in (1.0, 100.0, 100.0):
        meters.add("train", numbers(a=value))
    meters.forget_last(2)
    assert meters.read({"loss": 0.0}) == {"a": 1.0}


def test_a_number_that_the_skipped_step_did_not_have_stays():
    """A loss of a curriculum may be on in some steps only."""
    meters = Meters()
    meters.add("train", numbers(a=1.0, b=5.0))
    meters.add("train", numbers(a=100.0))
    meters.forget_last(1)
    assert meters.read({"loss": 0.0}) == {"a": 1.0, "b": 5.0}


def test_a_run_that_never_logs_keeps_no_more_and_more(monkeypatch):
    monkeypatch.setattr("hf_clip_kd.training.meters.MOST", 10)
    meters, sizes = Meters(), []
    for value in range(50):
        meters.add("train", numbers(a=float(value)) | (numbers(b=float(value)) if value % 2 else {}))
        sizes.append(len(meters.kept["train"]))
    meters.add("train", numbers(a=1e9))
    meters.forget_last(1)
    assert max(sizes) <= 10
    assert meters.read({"loss": 0.0}) == pytest.approx({"a": 24.5, "b": 25.0})


def test_a_number_is_kept_as_it_was():
    meters, weight = Meters(), torch.tensor([2.0])
    meters.add("train", {"scale": weight[0]})
    weight.fill_(9.0)
    assert meters.read({"loss": 0.0}) == {"scale": 2.0}
