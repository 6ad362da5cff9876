"""Flags of the Trainer: each is in the table, refused with a sentence or seen at work, also on resume."""

import dataclasses
import math
import shutil

import flag_effects_vlm  # noqa: F401 (registers effects)
import llava_runs
import pytest
import torch
from checkpointed_runs import make_run
from documents import ROOT
from flag_effects import EFFECTS, SEEN_BY, SLOW, World
from miniature import best_of, logs, make_args
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

import hf_clip_kd.training.checkpoints
from hf_clip_kd.distillation.training_args import DistillationTrainingArguments
from hf_clip_kd.training.flags import NEVER, RESUME, SAME, run_flags, unreadable
from hf_clip_kd.training.refusals import DISTILLATION, REFUSED, VLM
from hf_clip_kd.vlm.training_args import LlavaTrainingArguments

CLASSES = {DISTILLATION: DistillationTrainingArguments, VLM: LlavaTrainingArguments}


def names(*classes):
    flags = {field.name for cls in classes for field in dataclasses.fields(cls)} - {"accelerator_config"}
    return flags | {f"accelerator_config.{field.name}" for field in dataclasses.fields(AcceleratorConfig)}


# ---- The table ----


def test_table_has_every_flag():
    ours, theirs = set(RESUME) | set(REFUSED), names(TrainingArguments, *CLASSES.values())
    assert ours == theirs, (
        f"flags.py and refusals.py in hf_clip_kd/training lack {sorted(theirs - ours)}, and {sorted(ours - theirs)} "
        "are no flags. Read what transformers does with a new flag under both trainers. Refuse it in REFUSED, or add "
        "it to RESUME with an effect in tests/helpers/flag_effects.py."
    )


@pytest.mark.parametrize("name", ["learning_rate", "ema_decay", "max_grad_norm"])
def test_a_flag_that_is_no_number_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}=nan` is no number. It must be one. Leave it out"):
        make_args(tmp_path, **{name: math.nan})


@pytest.mark.parametrize("bound", [0.0, -1.0])
def test_a_bound_of_scales_that_is_none_is_refused(tmp_path, bound):
    with pytest.raises(ValueError, match=f"max_logit_scale={bound}` is no bound.*above 0.*for 100"):
        make_args(tmp_path, max_logit_scale=bound)


def test_flags_that_no_run_may_have_need_no_rule_for_a_resumed_one():
    always = {name for name, refusals in REFUSED.items() if any(_always(refusal) for refusal in refusals)}
    assert always.isdisjoint(RESUME) and set(REFUSED) - always <= set(RESUME) | {"do_eval", "debug"}


def _always(refusal):
    return len(refusal.trainers) == 2 and not refusal.values and refusal.unless is None


# ---- Refused flags ----

# A value that no default has, and flags that it needs beside it.
VALUES = {
    "optim_target_modules": "all-linear",
    "optim_args": "momentum=0.9",
    "warmup_steps": 0.25,
    "lr_scheduler_kwargs": {"num_cycles": 1.0},
    "activation_checkpointing_kwargs": {"use_reentrant": True},
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "liger_kernel_config": {"rope": True},
    "eval_accumulation_steps": 2,
    "include_for_metrics": ["loss"],
    "parallelism_config": "any",
    "label_names": ["labels"],
    "length_column_name": "num_words",
    "accelerator_config.gradient_accumulation_kwargs": {"num_steps": 2},
    "train_sampling_strategy": "sequential",
}
CONSTANT = {"lr_scheduler_type": "constant"}
BESIDE = {
    (DISTILLATION, "warmup_steps"): CONSTANT,
    (VLM, "warmup_steps"): CONSTANT,
    (DISTILLATION, "lr_scheduler_kwargs"): CONSTANT,
    (VLM, "lr_scheduler_kwargs"): CONSTANT,
    (VLM, "neftune_noise_alpha"): {"stage": "pretrain"},
    (DISTILLATION, "save_only_model"): {"max_hours": 1.0},
    (VLM, "save_only_model"): {"max_hours": 1.0},
    (DISTILLATION, "lr_scheduler_type"): {"eval_strategy": "steps", "metric_for_best_model": "acc1"},
    (VLM, "lr_scheduler_type"): {"eval_strategy": "steps", "metric_for_best_model": "acc1"},
}


def refusals():
    for trainer, cls in CLASSES.items():
        for name, refused in REFUSED.items():
            for number, refusal in enumerate(refused):
                if trainer in refusal.trainers:
                    values = refusal.values.split() or [VALUES.get(name, not default(cls, name))]
                    yield from (pytest.param(trainer, name, number, value, id=f"{name}={value}") for value in values)


def default(cls, name):
    owner, _, last = name.rpartition(".")
    return (AcceleratorConfig if owner else cls).__dataclass_fields__[last].default


def given(name, value):
    owner, _, last = name.rpartition(".")
    return {owner: {last: value}} if owner else {last: value}


@pytest.mark.parametrize(("trainer", "name", "number", "value"), list(refusals()))
def test_refused_with_a_sentence(trainer, name, number, value, tmp_path):
    refusal = REFUSED[name][number]
    flags = given(name, value) | BESIDE.get((trainer, name), {})
    with pytest.raises(ValueError) as caught:
        CLASSES[trainer](str(tmp_path), use_cpu=True, **flags)
    shown = [value] if name == "debug" else value
    allowed = f"It may not be {refusal.values.replace(' ', ', ')}." if refusal.values else "It must stay "
    assert str(caught.value).startswith(f"`{name}={shown}` cannot be used for {trainer}: {refusal.why} {allowed}")
    assert str(caught.value).endswith(refusal.fix)


@pytest.mark.parametrize(
    ("optim", "options"),
    [("sgd", "momentum=0.9, weight_decay=0.1"), ("sgd", "momentun=0.9"), ("adafactor", "eps=1"), ("rmsprop", "a=1")],
)
def test_options_that_an_optimizer_does_not_read_are_refused(optim, options, tmp_path):
    with pytest.raises(ValueError, match=f"`optim_args={options}` cannot .*This `optim` does not read.*momentum=0.9"):
        make_args(tmp_path, optim=optim, optim_args=options)
    assert make_args(tmp_path, optim="rmsprop", optim_args="alpha=0.9, momentum=0.5").optim_args


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_use_is_not_refused(cls, tmp_path):
    args = cls(str(tmp_path), use_cpu=True, do_eval=True, eval_strategy="steps", save_only_model=True, optim="sgd")
    again = dataclasses.replace(args)  # the flags as TrainingArguments leaves them
    assert again.to_dict() == args.to_dict()
    assert cls(str(tmp_path), use_cpu=True, report_to=[], max_hours=2.0).max_hours == 2.0


def test_a_use_in_one_trainer_is_not_refused_there(tmp_path):
    args = LlavaTrainingArguments(
        str(tmp_path), use_cpu=True, group_by_modality_length=False, train_sampling_strategy="sequential"
    )
    assert args.train_sampling_strategy == "sequential"
    assert LlavaTrainingArguments(str(tmp_path), use_cpu=True, neftune_noise_alpha=5.0).neftune_noise_alpha == 5.0
    assert LlavaTrainingArguments(str(tmp_path), use_cpu=True, warmup_steps=0, **CONSTANT).warmup_steps == 0


# ---- Flags that work ----

SUPPORTED = sorted(
    (names(TrainingArguments) & set(RESUME))
    - {name for name, refused in REFUSED.items() if any(map(_always, refused))}
)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


EACH = [
    pytest.param(effect, id=effect.__name__, marks=[pytest.mark.slow] if effect in SLOW else [])
    for effect in dict.fromkeys(effect for effects in EFFECTS.values() for effect in effects)
]


@pytest.mark.parametrize("effect", EACH)
def test_effect(effect, world):
    effect(world)


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_flag_has_a_test_of_its_effect(name):
    if name not in EFFECTS:
        path, _, function = SEEN_BY[name].partition("::")
        assert f"def {function}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert not (name in EFFECTS and name in SEEN_BY)


# ---- Resumed runs ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run that was killed after its second step of four, under a schedule that falls."""
    folder = tmp_path_factory.mktemp("saved")
    make_run(folder, **FALLING).train()
    for step in (3, 4):
        shutil.rmtree(folder / f"checkpoint-{step}")
    return folder


FALLING = {"lr_scheduler_type": "linear", "learning_rate": 0.1, "max_skipped_steps": 1}


class Rates(TrainerCallback):
    """Keep the rate with which the optimizer takes each step."""

    def __init__(self):
        self.used = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.used.append(optimizer.param_groups[0]["lr"])


@pytest.fixture
def resumed(saved, tmp_path):
    def resume(wanted="auto", **changes):
        folder = tmp_path / "run"
        if not folder.exists():
            shutil.copytree(saved, folder)
        rates = Rates()
        run = make_run(folder, **FALLING | changes, callbacks=[rates])
        run.rates = rates.used
        run.train(resume_from_checkpoint=wanted)
        return run

    return resume


# A changed value of each flag of the table that must stay, in the distillation trainer.
CHANGED = {
    "adam_beta1": 0.5,
    "adam_beta2": 0.6,
    "adam_epsilon": 1e-3,
    "dataloader_drop_last": False,
    "accelerator_config.dispatch_batches": False,
    "dtype": "bfloat16",
    "ema_decay": 0.9,
    "grad_cache": False,
    "image_sizes": [8, 16],
    "learning_rate": 0.3,
    "lr_scheduler_kwargs": {"num_cycles": 1.0},
    "lr_scheduler_type": "cosine",
    "max_grad_norm": 0.5,
    "max_logit_scale": 50.0,
    "train_sampling_strategy": "sequential",
    "warmup_steps": 2,
    "weight_decay": 0.0,
    "bf16": True,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 4,
    "seed": 1,
    "data_seed": 1,
    "losses": {"clip": 1.0},
}


def test_changes_are_of_all_flags_that_must_stay():
    only_vlm = names(LlavaTrainingArguments) - names(DistillationTrainingArguments)
    needs_more = {
        "tf32",
        "optim_args",
        "label_smoothing_factor",
        "neftune_noise_alpha",
        "average_tokens_across_devices",
        "teacher_image_sizes",
    }
    assert set(CHANGED) == {name for name, rule in RESUME.items() if rule == SAME} - only_vlm - needs_more


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_flag_is_refused_on_resume(name, resumed):
    shown = name.rpartition(".")[2].removeprefix("per_device_train_")
    with pytest.raises(ValueError, match=rf"{shown}.* was .*, is .*settings.*allow_changed_resume"):
        resumed(**given(name, CHANGED[name]))


# Step 3 of 4 begins after two steps of the schedule.
@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, [0.05, 0.025]),
        ({"learning_rate": 0.3, "allow_changed_resume": True}, [0.15, 0.075]),
        ({"lr_scheduler_type": "constant", "allow_changed_resume": True}, [0.1, 0.1]),
        ({"max_steps": 6}, [0.4 / 6, 0.3 / 6, 0.2 / 6, 0.1 / 6]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_rates_are_those_of_the_arguments(changes, rates, resumed):
    run = resumed(**changes)
    assert run.rates == pytest.approx(rates) and logs(run, "learning_rate")[2:] == run.rates


def test_all_settings_of_the_optimizer_are_those_of_the_arguments(resumed):
    run = resumed(allow_changed_resume=True, weight_decay=0.5, adam_beta1=0.5, adam_epsilon=1e-3)
    groups = run.optimizer.param_groups
    assert {(group["betas"], group["eps"]) for group in groups} == {((0.5, 0.98), 1e-3)}
    assert {group["weight_decay"] for group in groups} == {0.5, 0.0}


def test_a_bound_is_that_of_the_arguments(resumed):
    run = resumed(allow_changed_resume=True, max_logit_scale=14.0)
    for scale in (run.model.logit_scale, *run.model.losses.bounded_scales()):
        assert scale.exp().item() <= 14.0 * (1 + 1e-6)
    assert {group["upper_bound"] for group in run.optimizer.param_groups if "upper_bound" in group} == {math.log(14.0)}


def test_steps_of_saving_and_logging_are_those_of_the_arguments(resumed, tmp_path):
    run = resumed(save_steps=3, logging_steps=4)
    assert [entry["step"] for entry in run.state.log_history if "loss" in entry] == [1, 2, 4]
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {
        f"checkpoint-{step}" for step in (1, 2, 3, 4)
    }


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_an_optimizer_of_another_class_is_always_refused(optim, resumed):
    with pytest.raises(ValueError, match=f"optim was adamw_torch_fused, is {optim}.*start from the weights alone"):
        resumed(optim=optim, allow_changed_resume=True)


@pytest.fixture
def older(monkeypatch):
    """Checkpoints look as if they were saved before they named flags."""
    read = hf_clip_kd.training.checkpoints.read_run

    def read_older(folder):
        return {name: value for name, value in read(folder).items() if name != "arguments"}

    monkeypatch.setattr(hf_clip_kd.training.checkpoints, "read_run", read_older)


def test_an_older_checkpoint_trains_on_with_the_values_of_the_arguments(resumed, older):
    run = resumed(learning_rate=0.3, weight_decay=0.3)
    assert logs(run, "learning_rate")[-1] == pytest.approx(0.075)
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.3, 0.0}


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_an_older_checkpoint_of_another_optimizer_is_refused(optim, resumed, older):
    with pytest.raises(ValueError, match=r"optimizer is another.*it has no \w+.*start from the weights alone"):
        resumed(optim=optim)


def test_unreadable_values():
    now = {"optim": "sgd", "metric_for_best_model": "acc1", "learning_rate": 1, "lr_scheduler_type": "linear"}
    assert unreadable({}, now) == unreadable({"metric_for_best_model": None}, now) == []
    assert unreadable({"learning_rate": 2}, now) == [], "a schedule of its own is made anew"
    assert unreadable({"metric_for_best_model": "loss"}, now) == ["metric_for_best_model was loss, is acc1"]
    greedy = {"lr_scheduler_type": "greedy", "learning_rate": 2}
    assert unreadable(greedy, now) == ["learning_rate was 2, is 1", "lr_scheduler_type was greedy, is linear"]


def test_the_identity_is_in_types_of_json(tmp_path):
    flags = run_flags(make_args(tmp_path))
    assert flags["lr_scheduler_type"] == "constant" and flags["accelerator_config.dispatch_batches"] is None
    assert {RESUME[name] for name in flags} == {SAME, NEVER}


def test_a_vision_rate_is_in_the_identity(tmp_path):
    args = LlavaTrainingArguments(str(tmp_path), use_cpu=True, tune_vision_tower=True, vision_learning_rate=0.5)
    assert run_flags(args)["vision_learning_rate"] == 0.5


def test_callbacks_go_on_where_they_were(tmp_path):
    def run(*scores, **flags):
        flags |= best_of(*scores) | {"callbacks": [EarlyStoppingCallback(3)]}
        return make_run(tmp_path, max_skipped_steps=3, **flags)

    first = run(0.9, 0.5, max_steps=2)
    first.guard.skipped.on_train_begin = lambda *args, **kwargs: setattr(first.guard.skipped, "count", 1)
    first.train()
    second = run(0.5, 0.5, 0.5, 0.5, max_steps=8, restore_callback_states_from_checkpoint=True)
    second.train(resume_from_checkpoint="auto")
    assert second.state.global_step == 4, "the evaluation after step 2 was the first that was no better"
    assert second.guard.skipped.count == 1 and second.guard.skipped in second.callback_handler.callbacks


# ---- The other trainer ----


def llava_run(folder, **flags):
    model, processor = llava_runs.make_model()
    flags = {"save_strategy": "steps", "save_steps": 1, "tune_vision_tower": True, "max_steps": 2} | flags
    return llava_runs.make_trainer(folder, model, processor, dataset=llava_runs.make_rows(8, ()), **flags)


def test_flags_of_a_llava_on_resume(tmp_path):
    first = {"vision_learning_rate": 0.1, "projector_learning_rate": 0.2, "warmup_steps": 0}
    llava_run(tmp_path, **first).train()
    changed = first | {"vision_learning_rate": 0.3, "max_steps": 4, "weight_decay": 0.5}
    with pytest.raises(ValueError, match=r"vision_learning_rate was 0.1, is 0.3.*allow_changed_resume"):
        llava_run(tmp_path, **changed).train(resume_from_checkpoint="auto")
    # The weight decay makes groups of its own, which the saved state does not have.
    with pytest.raises(ValueError, match=r"different number of parameter groups.*Restore"):
        llava_run(tmp_path, **changed, allow_changed_resume=True).train(resume_from_checkpoint="auto")
    rates = Rates()
    run = llava_run(
        tmp_path, **changed | {"weight_decay": 0.0}, allow_changed_resume=True, callbacks=[rates], max_grad_norm=0.5
    )
    run.train(resume_from_checkpoint="auto")
    assert rates.used == pytest.approx([0.3 / 2, 0.3 * (1 + math.cos(0.75 * math.pi)) / 2]), "of a cosine of 4 steps"


def test_a_checkpoint_of_a_llava_alone_is_refused(tmp_path):
    llava_run(tmp_path, save_only_model=True, max_steps=1).train()
    with pytest.raises(ValueError, match=r"the model alone.*--model_name_or_path \S+checkpoint-1"):
        llava_run(tmp_path).train(resume_from_checkpoint="auto")


# ---- Checkpoints of the model alone ----


@pytest.mark.parametrize("wanted", ["auto", True, "folder"])
def test_a_checkpoint_of_the_model_alone_is_refused(wanted, tmp_path):
    make_run(tmp_path, save_only_model=True, max_steps=2).train()
    wanted = str(tmp_path / "checkpoint-2") if wanted == "folder" else wanted
    for flags in ({}, {"allow_changed_resume": True}, {"save_only_model": True}):
        with pytest.raises(ValueError, match=r"the model alone.*only with.*--model_name_or_path \S+checkpoint-2"):
            make_run(tmp_path, **flags).train(resume_from_checkpoint=wanted)


def test_rates_of_an_optimizer_of_the_caller_stay_in_its_state(tmp_path):
    def run(rate):
        run = make_run(tmp_path, max_steps=2, save_steps=1)
        run.optimizer = torch.optim.SGD(run.model.parameters(), lr=rate)
        run.settings = type(run.settings)(run)
        return run

    run(0.5).train()
    shutil.rmtree(tmp_path / "checkpoint-2")
    second = run(0.25)
    second.train(resume_from_checkpoint="auto")
    assert logs(second, "learning_rate") == [0.5, 0.5]
