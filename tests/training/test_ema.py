"""The moving average: its formula, and that both trainers evaluate, save, resume and leave it in place exactly."""

import json
from types import SimpleNamespace

import llava_runs
import pytest
import torch
from every_loss import make_run
from miniature import BATCH, STEPS, Pairs, best_of, logs, make_args, make_clip, make_trainer
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPModel, TrainerCallback

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.training.ema import Average, EMACallback
from hf_clip_kd.vlm import FeatureScale, load_llava, measure_features, merge_adapter

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


def test_training_is_the_plain_run_and_leaves_its_average(tmp_path):
    """All losses at once: the average has the heads, biases and statistics of each."""
    weights = Weights()
    plain = make_run(tmp_path, LOSSES, callbacks=[weights])
    plain.train()
    run = make_run(tmp_path, LOSSES, ema_decay=DECAY)
    run.train()
    assert logs(run, "loss") == logs(plain, "loss")
    assert_close(run.model.state_dict(), weights.average())
    first, last = weights.seen[0], weights.seen[-1]
    moved = [name for name in first if (last[name] - first[name]).abs().max() > 1e-5]
    assert parts(moved) == parts(first) and len(parts(first)) > 10, "there is something to average"


def parts(names):
    """Return the student and the losses that the names of weights belong to."""
    return {name.split(".")[2] if name.startswith("losses.") else "student" for name in names}


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
        assert resumed.ema.average.names == whole.ema.average.names
        for ours, expected in zip(resumed.ema.average.values, whole.ema.average.values, strict=True):
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


# ---- The other trainer ----

LLAVAS = {
    "projector": ("clip", {"stage": "pretrain"}),
    "finetune": ("clip", {}),
    "tower with BatchNorm": ("resnet", {"tune_vision_tower": True}),
    "frozen BatchNorm": ("resnet", {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
    "lora": ("clip", {"lora": {"r": 4, "lora_dropout": 0.1}}),
}
every_llava = pytest.mark.parametrize(("tower", "settings"), LLAVAS.values(), ids=LLAVAS)


def make_llava(folder, tower="clip", **settings):
    model, processor = llava_runs.make_model(tower)
    size = model.config.vision_config.image_size
    pixels = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    scale = FeatureScale(model, measure_features(model, pixels).power_of_two_scale())
    return llava_runs.make_trainer(folder, model, processor, scale, **settings)


@every_llava
def test_a_llava_leaves_its_average_of_the_parts_that_learn(tmp_path, tower, settings):
    weights = Weights()
    plain = make_llava(tmp_path, tower, callbacks=[weights], **settings)
    plain.train()
    run = make_llava(tmp_path, tower, ema_decay=DECAY, **settings)
    averaged = set(Average(run.model, DECAY).names)
    parameters = dict(run.model.named_parameters())
    assert averaged & set(parameters) == {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert any("vision_tower" in name for name in averaged & set(parameters)) == ("tune_vision_tower" in settings)
    run.train()
    assert logs(run, "loss") == logs(plain, "loss")
    assert_close(run.model.state_dict(), weights.average())


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_a_saved_llava_computes_what_its_average_does(tmp_path, lora):
    run = make_llava(tmp_path, ema_decay=DECAY, lora=lora)
    run.train()
    run.save_model()
    batch = run.data_collator([llava_runs.make_rows()[0]])
    saved = merge_adapter(llava_runs.make_model()[0], tmp_path) if lora else load_llava(tmp_path)[0]
    with torch.no_grad():
        expected = run.model.eval()(**batch).logits
        torch.testing.assert_close(saved.eval()(**batch).logits, expected, rtol=1e-4, atol=1e-5)


@every_llava
def test_a_resumed_llava_has_the_average_of_an_undisturbed_run(tmp_path, tower, settings):
    options = {"ema_decay": DECAY, "ema_evaluate": False, "save_strategy": "steps", "save_steps": 2} | settings
    whole = make_llava(tmp_path, tower, **options)
    whole.train()
    resumed = make_llava(tmp_path, tower, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    assert resumed.ema.average.names == whole.ema.average.names
    assert all(map(torch.equal, resumed.ema.average.values, whole.ema.average.values))
    assert load_file(tmp_path / "checkpoint-4" / "ema.safetensors").keys() == set(whole.ema.average.names)


@pytest.mark.parametrize("option", [True, False])
def test_a_llava_is_evaluated_with_its_average(tmp_path, option):
    options = {"eval_strategy": "steps", "eval_steps": 2}
    runs = [
        make_llava(tmp_path, eval_dataset=llava_runs.make_rows(8, ()), **options | more)
        for more in ({}, {"ema_decay": DECAY, "ema_evaluate": option})
    ]
    for run in runs:
        run.train()
    plain, averaged = runs
    assert logs(averaged, "loss") == logs(plain, "loss"), "the weights came back bit for bit"
    assert (logs(averaged, "eval_loss") == logs(plain, "eval_loss")) is not option
    if option:  # now it is in place
        assert averaged.evaluate()["eval_loss"] == pytest.approx(logs(averaged, "eval_loss")[-1], rel=1e-5)


def test_several_data_sets_are_evaluated_with_the_average_once(tmp_path):
    rows = llava_runs.make_rows(8, ())
    sets = {"first": rows.select(range(4)), "second": rows.select(range(4, 8))}
    options = {"eval_strategy": "steps", "eval_steps": 2, "ema_decay": DECAY}
    several, single = (make_llava(tmp_path, eval_dataset=data, **options) for data in (sets, sets["second"]))
    several.train(), single.train()
    assert logs(several, "loss") == logs(single, "loss")
    assert logs(several, "eval_second_loss") == logs(single, "eval_loss")


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_the_best_llava_is_the_average_of_its_checkpoint(tmp_path, lora):
    weights = Weights()
    run = make_llava(
        tmp_path,
        lora=lora,
        ema_decay=DECAY,
        callbacks=[weights],
        eval_dataset=llava_runs.make_rows(8, ()),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # the loss falls, so the first is the best
    )
    run.train()
    best = run.state.best_global_step
    assert best < STEPS
    assert_close(run.model.state_dict(), weights.average(best))


# ---- The average itself ----


def test_only_what_learns_is_averaged_buffers_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3).requires_grad_(False))
    average = Average(model, 0.5)
    assert average.names == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    before = model[1].running_mean.clone()
    model(torch.randn(8, 3))
    average.update(step=100)
    torch.testing.assert_close(average.values[4], (before + model[1].running_mean) / 2)


def test_an_evaluation_that_fails_gives_the_weights_back():
    ema, model = EMACallback(SimpleNamespace(ema_decay=DECAY, ema_evaluate=True)), nn.Linear(2, 2)
    ema.on_train_begin(ema.args, None, None, model=model)
    with torch.no_grad():
        model.weight.add_(1)
    own = model.weight.clone()
    for _ in range(2):
        with pytest.raises(ValueError, match="fails"), ema.in_place():
            assert not torch.equal(model.weight, own), "the average is in place"
            raise ValueError("fails")
        assert torch.equal(model.weight, own)


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
        run = make_trainer(tmp_path, ema_decay=DECAY, allow_changed_resume=True)
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_arguments_say_what_was_done(tmp_path):
    run = make_trainer(tmp_path, ema_decay=DECAY)
    run.save_model()
    assert json.loads((tmp_path / "training_args.json").read_text())["ema_decay"] == DECAY
