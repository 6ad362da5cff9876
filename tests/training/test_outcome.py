"""A run that cannot learn, or has learned nothing, ends in an error and leaves no model."""

import logging
from pathlib import Path

import llava_runs
import pytest
import torch
from miniature import BATCH, Pairs, make_trainer

from hf_clip_kd.vlm import LlavaDataCollator


def refused(trainer, message):
    """Check that a run ends in an error which fits, and that it left no weights."""
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert not list(Path(trainer.args.output_dir).rglob("*.safetensors"))


SAVED = {"save_strategy": "steps", "save_steps": 1}


@pytest.mark.parametrize("length", [{"max_steps": 20}, {"max_steps": -1, "num_train_epochs": 2}])
def test_fewer_rows_than_a_batch(tmp_path, length):
    message = rf"has 5 rows, fewer than the {BATCH} of one batch .*--per_device_train_batch_size 5"
    refused(make_trainer(tmp_path, dataset=Pairs(5), **SAVED | length), message)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_steps": 0}, "`max_steps=0` and `num_train_epochs=3` make 0 steps"),
        ({"max_steps": -1, "num_train_epochs": 0}, "`num_train_epochs=0` make 0 steps"),
        ({"dataset": torch.utils.data.Subset(Pairs(1), [])}, "has 0 rows, so there is nothing to learn"),
    ],
)
def test_nothing_to_do(tmp_path, changes, message):
    refused(make_trainer(tmp_path, **SAVED | changes), message)


def test_a_rate_of_zero_is_said(tmp_path, caplog):
    make_trainer(tmp_path, learning_rate=0.0, max_steps=1, save_strategy="no").train()
    assert "`learning_rate=0` moves no weight" in caplog.text


def test_frozen_weights_learn_nothing(tmp_path):
    trainer = make_trainer(tmp_path, **SAVED)
    trainer.model.requires_grad_(False)
    refused(trainer, "All weights of the model are frozen")


class Nothing(torch.utils.data.IterableDataset):
    """Data without a length and without a row."""

    def __iter__(self):
        yield from ()


def test_a_stream_that_gives_no_batch(tmp_path):
    run = make_trainer(tmp_path, dataset=Nothing(), accelerator_config={"dispatch_batches": False}, **SAVED)
    refused(run, "ended after 0 of 4 steps: its data gave no batch")


ONE = {"per_device_train_batch_size": 1, "max_steps": 2}


@pytest.mark.parametrize("losses", ["clip", "crd", "icl", "siglip", "cka", "gd", "relation"])
@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 4, "grad_cache": False}])
def test_a_batch_of_one_has_no_negatives(tmp_path, losses, changes):
    run = make_trainer(tmp_path, losses={losses: 1.0}, **SAVED | ONE | changes)
    refused(run, rf"a batch of one has no negatives: \['{losses}'\].*Give at least 2 rows")


def test_a_batch_of_one_teaches_the_other_losses(tmp_path, caplog):
    run = make_trainer(tmp_path, losses={"clip": 1.0, "fd": 1.0}, **ONE)
    run.train()
    assert "no negatives: ['clip'] compare each row with others. Only ['fd'] learn." in caplog.text
    assert "collapse" not in caplog.text, "one pair has no spread"
    assert run.state.log_history[0]["loss/fd"] > 0


def test_micro_batches_of_one_are_one_batch_with_grad_cache(tmp_path, caplog):
    run = make_trainer(tmp_path, losses={"clip": 1.0}, gradient_accumulation_steps=4, **ONE)
    run.train()
    assert run.state.log_history[0]["loss"] > 0 and "negatives" not in caplog.text


def test_a_last_batch_of_one_is_named(tmp_path, caplog):
    make_trainer(tmp_path, dataset=Pairs(BATCH + 1), dataloader_drop_last=False, max_steps=2).train()
    assert f"last batch of each epoch is one row of {BATCH + 1}" in caplog.text
    caplog.clear()
    make_trainer(tmp_path, dataset=Pairs(BATCH + 2), dataloader_drop_last=False, max_steps=2).train()
    assert "last batch" not in caplog.text


def zero(trainer, steps):
    """Let the first losses of a run be exactly 0."""
    real, left = trainer.compute_loss, iter([0.0] * steps)
    trainer.compute_loss = lambda *args, **kwargs: real(*args, **kwargs) * next(left, 1.0)
    return trainer


@pytest.mark.parametrize("changes, steps", [(SAVED, 1), ({}, 3), ({"max_steps": 2}, 2)])
def test_a_loss_of_zero_from_the_first_step(tmp_path, changes, steps):
    refused(zero(make_trainer(tmp_path, **changes), 9), rf"exactly 0 in all {steps} first step\(s\)")


def test_a_loss_that_is_zero_by_chance_is_no_reason(tmp_path):
    run = zero(make_trainer(tmp_path), 2)
    run.train()
    assert run.state.global_step == 4


def test_a_run_that_skipped_every_step(tmp_path):
    run = make_trainer(tmp_path, max_skipped_steps=9)
    with torch.no_grad():
        run.student.visual_projection.weight.fill_(float("nan"))
    refused(run, "All 4 steps were skipped")


def test_a_run_that_was_stopped_after_its_last_step_is_fine(tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 4}
    make_trainer(tmp_path, **changes).train()
    run = make_trainer(tmp_path, **changes)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 4


@pytest.mark.parametrize("length", [{"max_steps": 3}, {"max_steps": -1, "num_train_epochs": 2}], ids=["within", "at"])
def test_it_ends_with_the_random_numbers_of_a_whole_run_within_and_at_the_end_of_an_epoch(tmp_path, length):
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        run = make_trainer(tmp_path, **length, save_strategy="steps", save_steps=1)
        run.train(resume_from_checkpoint="auto")
        ends.append(torch.random.get_rng_state())
        torch.rand(7)
    assert torch.equal(*ends)


def test_a_llava_without_a_usable_sample(tmp_path):
    rows = llava_runs.make_rows(8, text_only=())
    broken = rows.map(lambda row: {"images": [{"bytes": b"", "path": "x.png"}]}, features=rows.features)
    model, processor = llava_runs.make_model()
    run = llava_runs.make_trainer(tmp_path, model, processor, dataset=broken, max_steps=2)
    run.data_collator = LlavaDataCollator(processor, on_bad_sample="skip")
    refused(run, r"Of 8 samples, 8 were left out: \{'no usable image': 8\}")


def test_the_number_of_rows_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "hf_clip_kd"):
        make_trainer(tmp_path, gradient_accumulation_steps=2, max_steps=1).train()
    assert f"The training data has 32 rows, and a step takes {2 * BATCH} of them." in caplog.text
