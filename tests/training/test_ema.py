"""The moving average of the student: its formula, and that it is evaluated, saved, resumed and left in place exactly."""

import json

import pytest
import torch
from every_loss import make_run
from miniature import BATCH, STEPS, Pairs, best_of, logs, make_args, make_clip, make_trainer
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPModel, TrainerCallback

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.training.ema import Average

DECAY = 0.6  # the first two steps use less


def decay(step):
    return min(DECAY, (1 + step) / (10 + step))


class Weights(TrainerCallback):
    """The weights after every step."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.seen = [self.copy(model)]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.seen.append(self.copy(model))

    def copy(self, model):
        return {name: x.clone() for name, x in model.state_dict().items() if x.is_floating_point()}

    def average(self, steps=None):
        seen = self.seen[: None if steps is None else steps + 1]
        average = {name: x.double() for name, x in seen[0].items()}
        for step, weights in enumerate(seen[1:], start=1):
            average = {
                name: decay(step) * old + (1 - decay(step)) * weights[name].double() for name, old in average.items()
            }
        return average


def assert_close(state, expected):
    for name, value in expected.items():
        torch.testing.assert_close(state[name].double(), value.double(), rtol=1e-6, atol=1e-6, msg=name)


def assert_equal(state, expected):
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("name", LOSSES)
def test_training_is_the_plain_run_and_leaves_its_average(tmp_path, name):
    weights = Weights()
    plain = make_run(tmp_path, [name], callbacks=[weights])
    plain.train()
    run = make_run(tmp_path, [name], ema_decay=DECAY)
    run.train()
    assert logs(run, "loss") == logs(plain, "loss")
    assert_close(run.model.state_dict(), weights.average())
    moved = max((a - b).abs().max() for a, b in zip(weights.seen[-1].values(), weights.seen[0].values(), strict=True))
    assert moved > 1e-5, "there is something to average"


def test_saved_student_is_the_average_or_the_last_weights(tmp_path):
    weights = Weights()
    for folder, option in (("average", True), ("last", False)):
        run = make_trainer(tmp_path / folder, ema_decay=DECAY, ema_evaluate=option, callbacks=[weights])
        run.train()
        run.save_model()
    average, last = (CLIPModel.from_pretrained(tmp_path / folder).state_dict() for folder in ("average", "last"))
    expected = weights.average()
    for name in average:
        torch.testing.assert_close(average[name], expected[f"student.{name}"].float(), rtol=1e-5, atol=1e-6, msg=name)
        assert torch.equal(last[name], weights.seen[-1][f"student.{name}"]), name
    heads = load_file(tmp_path / "average" / "losses.safetensors")
    assert_close(heads, {name: expected[name] for name in heads})
    assert not (tmp_path / "average" / "ema.safetensors").exists()
    assert_close(load_file(tmp_path / "last" / "ema.safetensors"), expected)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16 weights"])
def test_resume_equals_an_undisturbed_run(tmp_path, bf16):
    def student():
        return make_clip(attention_dropout=0.2).to(torch.bfloat16 if bf16 else torch.float32)

    options = {"ema_decay": DECAY, "ema_evaluate": False, "bf16": bf16}
    whole = make_trainer(tmp_path / "whole", student(), save_strategy="steps", save_steps=1, **options)
    whole.train()
    for step in range(1, STEPS):
        resumed = make_trainer(tmp_path / "resumed", student(), **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert_equal(resumed.model.state_dict(), whole.model.state_dict())
        assert resumed.average.names == whole.average.names
        for ours, expected in zip(resumed.average.values, whole.average.values, strict=True):
            assert ours.dtype == torch.float32 and torch.equal(ours, expected)


def test_checkpoint_holds_the_last_weights_with_the_average_beside_them(tmp_path):
    weights = Weights()
    run = make_trainer(tmp_path, ema_decay=DECAY, save_strategy="steps", save_steps=2, callbacks=[weights])
    run.train()
    checkpoint = tmp_path / "checkpoint-2"
    live = CLIPModel.from_pretrained(checkpoint).state_dict()
    assert_equal(live, {name: weights.seen[2][f"student.{name}"] for name in live})
    assert_close(load_file(checkpoint / "ema.safetensors"), weights.average(2))


@pytest.mark.parametrize("option", [True, False])
def test_evaluation_sees_the_average_and_gives_the_weights_back(tmp_path, option):
    weights, seen = Weights(), []

    def evaluator(model, processor):
        seen.append({f"student.{name}": x.clone() for name, x in model.state_dict().items()})
        return {"acc1": 0.5}

    options = {"eval_dataset": Pairs(BATCH), "eval_strategy": "steps", "eval_steps": 2}
    run = make_trainer(
        tmp_path, ema_decay=DECAY, ema_evaluate=option, evaluator=evaluator, callbacks=[weights], **options
    )
    run.train()
    plain = make_trainer(tmp_path, **options)
    plain.train()
    assert logs(run, "loss") == logs(plain, "loss"), "the weights came back bit for bit"
    for step, state in zip((2, 4), seen, strict=True):
        expected = weights.average(step) if option else weights.seen[step]
        assert_close(state, {name: expected[name] for name in state})
    assert (logs(run, "eval_loss") == logs(plain, "eval_loss")) is not option


def test_best_model_is_the_average_of_its_checkpoint(tmp_path):
    weights = Weights()
    run = make_trainer(
        tmp_path,
        ema_decay=DECAY,
        **best_of(0.1, 0.9, 0.2, 0.3),
        callbacks=[weights],
    )
    run.train()
    assert_close(run.model.state_dict(), weights.average(2))


def test_micro_batches_are_one_step(tmp_path):
    weights = Weights()
    run = make_trainer(
        tmp_path,
        ema_decay=DECAY,
        callbacks=[weights],
        per_device_train_batch_size=BATCH // 2,
        gradient_accumulation_steps=2,
    )
    run.train()
    assert len(weights.seen) == 1 + STEPS
    assert_close(run.model.state_dict(), weights.average())


def test_only_what_learns_is_averaged_buffers_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3).requires_grad_(False))
    average = Average(model, 0.5)
    assert average.names == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    before = model[1].running_mean.clone()
    model(torch.randn(8, 3))
    average.update(step=100)
    torch.testing.assert_close(average.values[4], (before + model[1].running_mean) / 2)


def test_half_precision_weights_are_averaged_in_float32():
    model = nn.Linear(4, 4).bfloat16()
    average = Average(model, 0.999)
    before = average.values[0].clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    change = model.weight.float() - before
    average.update(step=10**6)
    torch.testing.assert_close(average.values[0] - before, 0.001 * change, rtol=1e-3, atol=1e-6)


def test_refused(tmp_path):
    for value in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"`ema_decay={value}`.*below 1.*Pass"):
            make_args(tmp_path, ema_decay=value)
    make_trainer(tmp_path, save_strategy="steps", save_steps=2).train()
    with pytest.raises(ValueError, match=r"ema.safetensors is not there.*Leave `ema_decay` out"):
        make_trainer(tmp_path, ema_decay=DECAY).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_arguments_say_what_was_done(tmp_path):
    run = make_trainer(tmp_path, ema_decay=DECAY)
    run.save_model()
    assert json.loads((tmp_path / "training_args.json").read_text())["ema_decay"] == DECAY
