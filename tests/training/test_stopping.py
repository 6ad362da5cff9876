"""A run that is told to stop saves, exits with code 0, and goes on as if nothing had happened."""

import os
import signal
import time

import pytest
from checkpointed_runs import assert_same, make_run, names
from crashing import Launch, digests
from transformers import TrainerCallback

from hf_clip_kd.distillation.training_args import DistillationTrainingArguments
from hf_clip_kd.training.checkpoint_files import why_incomplete


class Send(TrainerCallback):
    """A signal to this very process, in the middle of a step."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def stopped(folder, **changes):
    run = make_run(folder, save_strategy="no", **changes)
    with pytest.raises(SystemExit) as caught:
        run.train()
    assert caught.value.code == 0
    return run


def assert_goes_on(folder, tmp_path):
    whole, resumed = make_run(tmp_path / "whole", save_strategy="no"), make_run(folder, save_strategy="no")
    whole.train()
    resumed.train(resume_from_checkpoint="auto")
    assert_same(resumed, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_exits(number, tmp_path):
    before = signal.getsignal(number)
    run = stopped(tmp_path / "run", callbacks=[Send(number, 2)])
    assert run.state.global_step == 2
    assert names(tmp_path / "run") == ["checkpoint-2"] and why_incomplete(tmp_path / "run" / "checkpoint-2") is None
    assert signal.getsignal(number) == before
    assert_goes_on(tmp_path / "run", tmp_path)


def test_a_signal_does_not_promise_what_save_only_model_cannot_keep(tmp_path, caplog):
    stopped(tmp_path / "run", callbacks=[Send(signal.SIGTERM, 2)], save_only_model=True)
    assert "holds the model alone" in caplog.text and "resume it" not in caplog.text


def test_max_hours_saves_and_exits(tmp_path):
    run = stopped(tmp_path / "run", max_hours=1e-9)
    assert run.state.global_step == 1
    assert_goes_on(tmp_path / "run", tmp_path)


def test_time_enough_changes_nothing(tmp_path):
    assert make_run(tmp_path, max_hours=1.0).train().global_step == 4


def test_after_the_last_step_there_is_nothing_to_stop(tmp_path):
    run = make_run(tmp_path, callbacks=[Send(signal.SIGTERM, 4)])
    assert run.train().global_step == 4


def test_the_best_model_does_not_take_the_place_of_the_last(tmp_path):
    scores = iter([0.9, 0.1, 0.1])
    make = {
        "evaluator": lambda *_: {"score": next(scores)},
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "score",
        "load_best_model_at_end": True,
        "save_total_limit": 1,
    }
    run = make_run(tmp_path, callbacks=[Send(signal.SIGTERM, 2)], **make)
    with pytest.raises(SystemExit):
        run.train()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_save_strategy_best_does_not_take_the_checkpoint_away(tmp_path):
    scores = iter([0.9, 0.1])
    make = {
        "evaluator": lambda *_: {"score": next(scores)},
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "score",
        "greater_is_better": True,
    }
    run = make_run(tmp_path, callbacks=[Send(signal.SIGTERM, 2)], save_strategy="best", **make)
    with pytest.raises(SystemExit):
        run.train()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"] and why_incomplete(tmp_path / "checkpoint-2") is None


def test_without_a_checkpoint_it_does_not_say_that_all_is_well(tmp_path, monkeypatch):
    run = make_run(tmp_path, save_strategy="no", max_hours=1e-9)
    monkeypatch.setattr(run, "_save_rng_state", lambda folder: open(os.path.join(folder, "no", "where"), "w"))
    with pytest.raises(RuntimeError, match="without a checkpoint"):
        run.train()


def test_no_time_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_hours=0.*above 0"):
        DistillationTrainingArguments(str(tmp_path), max_hours=0, use_cpu=True)


def after(launch, phase, times):
    """Wait until each process of a run has been in a phase so often."""
    end = time.monotonic() + 60
    while any(board.count(phase) < times for board in launch.boards) and time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(context, tmp_path):
    changes = {"save_strategy": "no"}
    assert Launch(context, "map, DDP", tmp_path / "whole", **changes).join() == [0, 0]
    launch = Launch(context, "map, DDP", tmp_path / "run", **changes)
    after(launch, "forward", 2)
    os.kill(launch.processes[1].pid, signal.SIGUSR1)
    assert launch.join() == [0, 0]
    (saved,) = (tmp_path / "run").glob("checkpoint-*")
    assert why_incomplete(saved) is None and saved.name != "checkpoint-8"
    assert not (tmp_path / "run" / "digest-0").exists(), "what comes after training waits for the end of it"
    assert Launch(context, "map, DDP", tmp_path / "run", **changes).join() == [0, 0]
    assert digests(tmp_path / "run", 2) == digests(tmp_path / "whole", 2)


def test_workers_leave_a_signal_to_all_to_the_main_process(context, tmp_path):
    launch = Launch(context, "stream", tmp_path / "run", save_strategy="no")
    after(launch, "forward", 2)
    os.killpg(launch.processes[0].pid, signal.SIGTERM)
    assert launch.join() == [0]
    (saved,) = (tmp_path / "run").glob("checkpoint-*")
    assert why_incomplete(saved) is None and saved.name != "checkpoint-8"
