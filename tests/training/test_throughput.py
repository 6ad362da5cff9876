"""Speed and shares of the time in every log, in metrics.jsonl and in TensorBoard."""

import json
import time
from types import SimpleNamespace

import pytest
import torch
from llava_runs import make_model
from llava_runs import make_trainer as make_llava_trainer
from miniature import BATCH, STEPS, Pairs, logs, make_trainer
from transformers import TrainerCallback

from hf_clip_kd.training.throughput import Clock


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Hours:
    """A clock that stands still but for what is said to take time."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("hf_clip_kd.training.throughput.time", SimpleNamespace(perf_counter=lambda: self.now))

    def taking(self, seconds, function):
        def slow(*args, **kwargs):
            self.now += seconds
            return function(*args, **kwargs)

        return slow


# ---- Throughput ----


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_shares_are_those_of_the_time(tmp_path, micro_batches, monkeypatch):
    clock = Hours(monkeypatch)
    run = make_trainer(
        tmp_path,
        per_device_train_batch_size=BATCH // micro_batches,
        gradient_accumulation_steps=micro_batches,
        evaluator=clock.taking(100.0, lambda model, processor: {"acc1": 0.0}),
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=STEPS,
        save_strategy="steps",
        save_steps=1,
    )
    run.data_collator = clock.taking(2.0, run.data_collator)
    run.teacher.forward = clock.taking(1.0, run.teacher.forward)
    run.model.student_features = clock.taking(3.0, run.model.student_features)
    run.save_model = clock.taking(100.0, run.save_model)
    run.create_optimizer()
    run.optimizer.step = clock.taking(1.0, run.optimizer.step)
    run.train()
    passes = 1 if micro_batches == 1 else 2  # GradCache encodes twice
    seconds = {"data_wait_share": 2 * micro_batches, "teacher_share": micro_batches}
    seconds["student_share"] = 3 * passes * micro_batches
    step = sum(seconds.values()) + 1
    for name, value in seconds.items():
        assert logs(run, name) == [pytest.approx(value / step, rel=1e-3)], name
    assert logs(run, "samples_per_second") == [pytest.approx(BATCH / step, rel=1e-3)]


def test_each_log_is_about_the_steps_since_the_last(tmp_path, monkeypatch):
    clock = Hours(monkeypatch)
    run = make_trainer(tmp_path)
    forward, seconds = run.teacher.forward, iter([1.0, 2.0, 4.0, 8.0])
    run.teacher.forward = lambda *args, **kwargs: clock.taking(next(seconds), forward)(*args, **kwargs)
    run.train()
    assert logs(run, "samples_per_second") == [BATCH, BATCH / 2, BATCH / 4, BATCH / 8]
    assert logs(run, "teacher_share") == [1.0] * STEPS


def test_without_a_teacher_it_has_no_share(tmp_path):
    run = make_trainer(tmp_path, teacher=False, losses={"clip": 1.0})
    run.train()
    assert logs(run, "teacher_share") == [0.0] * STEPS
    assert min(logs(run, "student_share")) > 0


def test_a_llava_is_watched_as_well(tmp_path):
    run = make_llava_trainer(tmp_path, *make_model())
    run.train()
    assert len(logs(run, "samples_per_second")) == 4 and min(logs(run, "student_share")) > 0.1
    assert [entry["loss"] for entry in metrics(tmp_path) if "loss" in entry] == logs(run, "loss")


def test_clock_sums_up_and_starts_anew():
    clock = Clock(torch.device("cpu"))
    for _ in range(2):
        with clock("outer"), clock("inner"):
            time.sleep(0.01)
    seconds = clock.read()
    assert 0.02 <= seconds["inner"] <= seconds["outer"]
    assert clock.read() == {}


def test_a_run_that_never_logs_keeps_no_more_and_more_spans(monkeypatch):
    time_of = Hours(monkeypatch)
    monkeypatch.setattr("hf_clip_kd.training.throughput.MOST", 3)
    clock, sizes = Clock(torch.device("cpu")), []
    work = time_of.taking(1.0, lambda: None)
    for _ in range(10):
        with clock("outer"):
            with clock("inner"):
                work()
            work()
        sizes.append(len(clock.spans["outer"]))
    assert max(sizes) <= 3 and clock.read() == {"outer": 20.0, "inner": 10.0}


# ---- metrics.jsonl ----


def test_every_log_is_a_line(tmp_path):
    run = make_trainer(
        tmp_path,
        eval_dataset=Pairs(BATCH),
        evaluator=lambda model, processor: {"acc1": 0.5},
        eval_strategy="steps",
        eval_steps=2,
    )
    run.train()
    assert metrics(tmp_path) == run.state.log_history
    assert {key for entry in metrics(tmp_path) for key in entry} > {"loss", "loss/fd", "eval_loss", "eval_acc1"}


def test_each_training_starts_its_file_anew(tmp_path):
    make_trainer(tmp_path).train()
    again = make_trainer(tmp_path)
    again.train()
    assert metrics(tmp_path) == again.state.log_history


def test_a_resumed_run_goes_on_in_the_file(tmp_path):
    whole = make_trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"loss": 1.0, "st')  # a kill leaves half a line
    resumed = make_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    lines = metrics(tmp_path)
    assert [entry["step"] for entry in lines if "loss" in entry] == [1, 2, 3, 4]
    assert [entry["loss"] for entry in lines if "loss" in entry] == logs(whole, "loss")


def test_a_full_disk_delays_lines_and_loses_none(tmp_path, caplog):
    run = make_trainer(tmp_path)
    path = tmp_path / "metrics.jsonl"

    class Full(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 1:
                path.rename(tmp_path / "aside")
                path.mkdir()  # no file can be written there
            if state.global_step == 3:
                path.rmdir()

    run.add_callback(Full())
    run.train()
    assert metrics(tmp_path) == run.state.log_history
    assert caplog.text.count("lacks lines for now") == 1 and not list(tmp_path.glob("*.tmp"))


def test_what_is_no_number_in_json_is_null(tmp_path):
    run = make_trainer(tmp_path)
    run.log({"score": float("nan"), "loss_of_another": float("inf"), "good": 1.0})
    (entry,) = metrics(tmp_path)
    assert entry["score"] is None and entry["loss_of_another"] is None and entry["good"] == 1.0


# ---- TensorBoard ----


def test_tensorboard_shows_parts_and_shares(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    run = make_trainer(tmp_path, report_to="tensorboard")
    run.train()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    for key in ("loss", "loss/fd", "teacher_share", "samples_per_second", "embedding_variance/image"):
        values = [event.value for event in events.Scalars(f"train/{key}")]
        assert values == pytest.approx(logs(run, key), rel=1e-5), key
