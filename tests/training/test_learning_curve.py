"""Learning curve of a run: what is scored, what the run does not notice, and what a resumed run keeps."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate.utils import gather_object
from llava_runs import losses, make_model, make_trainer
from processes import join, launch, leave
from transformers import TrainerCallback

from hf_clip_kd.training import learning_curve
from hf_clip_kd.training.learning_curve import LearningCurve, curve_of

SETTINGS = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "ema_decay": 0.6}
SETTINGS |= {"lora": {"r": 4, "lora_dropout": 0.1}, "learning_rate": 1e-1}


class Averages(TrainerCallback):
    """The average of the weights after each step, from the trainer's own record."""

    def __init__(self, trainer):
        self.trainer, self.norms = trainer, {}

    def on_step_end(self, args, state, control, **kwargs):
        self.norms[state.global_step] = norm(self.trainer.ema.average.values)


def norm(tensors):
    return float(torch.stack([x.norm() for x in tensors]).norm())


def read(folder):
    return json.loads((folder / "learning_curve.json").read_text())


def run(folder, steps=None, stop_at=None, **more):
    """Train; a score is the norm of the weights that learn, and takes random numbers of every kind."""
    model, processor = make_model()
    trainer = make_trainer(folder, model, processor, **SETTINGS)
    trainer.averages, trainer.files = Averages(trainer), []
    trainer.add_callback(trainer.averages)

    def score():
        path = folder / "learning_curve.json"
        trainer.files.append(read(folder)["steps"] if path.is_file() else [])
        random.random(), np.random.rand(), torch.rand(1)
        value = norm([p.detach() for p in trainer.model.parameters() if p.requires_grad])
        return {"shapes": {"accuracy": value, "count/accuracy": value / 2}}

    if stop_at is not None:
        stop = TrainerCallback()
        stop.on_step_end = lambda args, state, control, **_: tell_to_stop(trainer, state, stop_at)
        trainer.callback_handler.callbacks.insert(0, stop)
    if steps is not None:
        trainer.curve = LearningCurve(trainer, steps, score)
        trainer.add_callback(trainer.curve)
    random.seed(0), np.random.seed(0)
    if stop_at is not None:
        with pytest.raises(SystemExit):
            trainer.train(**more)
        return trainer
    trainer.train(**more)
    trainer.random = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    if steps is not None:
        trainer.curve.finish(score())
    return trainer


def tell_to_stop(trainer, state, step):
    if state.global_step == step:
        trainer.stopping.reason = "SIGTERM"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    trainer = run(folder, [5, 2, 5, 6])
    return folder, trainer


def test_a_run_that_scores_itself_is_the_run_that_does_not(plain, scored):
    _, trainer = scored
    assert losses(trainer) == losses(plain)
    expected = plain.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
    ours, theirs = (t.optimizer.state_dict()["state"] for t in (trainer, plain))
    for key, state in theirs.items():
        assert all(torch.equal(torch.as_tensor(state[name]), torch.as_tensor(ours[key][name])) for name in state)
    assert trainer.random == plain.random


def test_the_average_is_scored_and_the_curve_is_written(plain, scored):
    folder, trainer = scored
    curve = read(folder)
    assert curve["steps"] == [2, 5, 6]
    found = curve["scores"]["shapes"]["accuracy"]
    assert found == pytest.approx([plain.averages.norms[step] for step in (2, 5, 6)])
    assert len(set(found)) == 3
    assert curve["scores"]["shapes"]["count/accuracy"] == pytest.approx([value / 2 for value in found])
    logs = np.log([2, 5, 6])
    for metric, values in curve["scores"]["shapes"].items():
        expected = np.trapezoid(values, logs) / (logs[-1] - logs[0])
        assert curve["area"]["shapes"][metric] == pytest.approx(expected)
    assert trainer.files == [[], [2], [2, 5]], "each point is written at once"
    assert 0 < curve["seconds"][0] and all(a <= b for a, b in pairwise(curve["seconds"]))
    assert [h["shapes_accuracy"] for h in trainer.state.log_history if "shapes_accuracy" in h] == found[:2]


def test_a_resumed_run_keeps_the_points_up_to_its_checkpoint_and_no_later_ones(scored):
    folder, whole = scored
    before = read(folder)
    resumed = run(folder, [2, 5], resume_from_checkpoint=str(folder / "checkpoint-3"))
    after = read(folder)
    assert resumed.files == [[2], [2, 5]]
    assert after["steps"] == before["steps"] and after["scores"] == before["scores"]
    assert after["seconds"][0] == before["seconds"][0] <= after["seconds"][1]


def test_a_run_that_is_told_to_stop_leaves_the_scoring_to_the_next(tmp_path, plain):
    stopped = run(tmp_path, [2, 5], stop_at=2)
    assert stopped.files == [] and not (tmp_path / "learning_curve.json").exists()
    run(tmp_path, [2, 5], resume_from_checkpoint="auto")
    curve = read(tmp_path)
    assert curve["steps"] == [2, 5, 6]
    assert curve["scores"]["shapes"]["accuracy"] == pytest.approx([plain.averages.norms[step] for step in (2, 5, 6)])


def test_scoring_is_not_counted_as_training(tmp_path, monkeypatch):
    model, processor = make_model()
    trainer = make_trainer(tmp_path, model, processor)
    clock = iter(range(0, 10**6))
    monkeypatch.setattr("hf_clip_kd.training.throughput.time.perf_counter", lambda: next(clock))

    def score():
        for _ in range(10**4):
            next(clock)
        return {"shapes": {"accuracy": 1.0}}

    trainer.add_callback(LearningCurve(trainer, [1, 2, 3], score))
    trainer.train()
    assert trainer.throughput.trained < 10**4


def test_a_full_disk_at_a_point_does_not_end_the_training(tmp_path, scored, monkeypatch, caplog):
    write = learning_curve.write_whole

    def full(path, text):
        if len(json.loads(text)["steps"]) == 1:
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(learning_curve, "write_whole", full)
    trainer = run(tmp_path, [5, 2, 5, 6])
    assert "learning_curve.json could not be written" in caplog.text and trainer.state.global_step == 6
    assert read(tmp_path)["steps"] == read(scored[0])["steps"]


def test_a_metric_that_a_point_lacks_is_left_out():
    points = [
        {"step": 1, "seconds": 1.0, "scores": {"a": {"x": 0.0}}},
        {"step": 9, "seconds": 2.0, "scores": {"a": {"x": 1.0, "y": 1.0}, "b": {"x": 1.0}}},
    ]
    curve = curve_of(points)
    assert curve["scores"] == {"a": {"x": [0.0, 1.0]}, "b": {}} and curve["area"] == {"a": {"x": 0.5}, "b": {}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([0, 2], r"`score_at_steps=\[0, 2\]` has 0. It must be numbers of optimizer steps.*Pass for example"),
        ([2.5], "has 2.5. It must be"),
        ([True], "has True. It must be"),
        ([2, 5], r"has 5, and the run has 4 steps. No step may lie beyond the last. Leave it out"),
    ],
    ids=str,
)
def test_bad_steps_are_named_with_the_fix(steps, message, tmp_path):
    model, processor = make_model()
    trainer = make_trainer(tmp_path, model, processor)
    with pytest.raises(ValueError, match=message):
        trainer.add_callback(LearningCurve(trainer, steps, dict))
        trainer.train()


def test_engines_that_shard_are_refused(tmp_path):
    model, processor = make_model()
    trainer = make_trainer(tmp_path, model, processor)
    trainer.is_fsdp_enabled = True
    with pytest.raises(ValueError, match="under FSDP or DeepSpeed.*whole weights.*leave `score_at_steps` out"):
        LearningCurve(trainer, [2], dict)


def in_a_process(rank, processes, port, folder):
    join(rank, processes, port)
    model, processor = make_model()
    trainer = make_trainer(folder, model, processor, per_device_train_batch_size=2)

    def score():
        return {"shapes": {"accuracy": float(sum(gather_object([1 + rank])))}}

    curve = LearningCurve(trainer, [2], score)
    trainer.add_callback(curve)
    trainer.train()
    curve.finish(score())
    leave()


@pytest.mark.slow
def test_all_processes_score_and_the_main_process_writes(tmp_path):
    curve = read(launch(in_a_process, 2, tmp_path))
    assert curve["steps"] == [2, 4] and curve["scores"] == {"shapes": {"accuracy": [3.0, 3.0]}}
