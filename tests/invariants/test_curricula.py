"""Weights of losses and teachers that change during training: each step has its own, also after a resume."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from checkpointed_runs import assert_same, make_run
from miniature import (
    BATCH,
    STEPS,
    Pairs,
    Teacher,
    logs,
    make_clip,
    make_trainer,
)

from hf_clip_kd.models import PatchDropping
from hf_clip_kd.teachers import TeacherEnsemble

# Objective, and the weight of each changing loss in each of the four steps, and after the last.
CURRICULUM = {
    "clip": 1.0,
    "crd": {"weight": {0: 1.0, 0.5: 0}},
    "icl": {"weight": {0: 0, 0.5: 2.0}},
    "fd": {"weight": {"ramp": {0: 4.0, 1: 0.0}}},
}
BY_STEP = {"crd": [1, 1, 0, 0, 0], "icl": [0, 0, 2, 2, 2], "fd": [4, 3, 2, 1, 0]}
HALVES = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize("split", [{}, HALVES], ids=["whole", "micro-batches"])
def test_weights_change_at_their_steps(tmp_path, split):
    """Also in an evaluation, which has the weights of the next step."""
    evaluation = {"eval_dataset": Pairs(8), "eval_strategy": "steps", "eval_steps": 1}
    trainer = make_trainer(tmp_path, losses=CURRICULUM, **evaluation, **split)
    trainer.train()
    for first, prefix in ((0, ""), (1, "eval_")):
        entries = [entry for entry in trainer.state.log_history if f"{prefix}loss" in entry]
        assert len(entries) == STEPS
        for step, entry in enumerate(entries, start=first):
            weights = {"clip": 1.0} | {name: values[step] for name, values in BY_STEP.items()}
            on = {name: weight for name, weight in weights.items() if weight}
            parts = {name.removeprefix(f"{prefix}loss/") for name in entry if name.startswith(f"{prefix}loss/")}
            assert parts == on.keys()
            total = sum(weight * entry[f"{prefix}loss/{name}"] for name, weight in on.items())
            assert entry[f"{prefix}loss"] == pytest.approx(total, rel=1e-5)
            if not prefix:
                assert {name: entry[f"weight/{name}"] for name in BY_STEP} == pytest.approx(
                    {name: values[step] for name, values in BY_STEP.items()}
                )


def test_micro_batches_follow_the_curriculum_of_one_batch(tmp_path):
    whole, halves = (make_trainer(tmp_path, losses=CURRICULUM, **split) for split in ({}, HALVES))
    halves.model.losses.load_state_dict(whole.model.losses.state_dict())
    whole.train(), halves.train()
    assert logs(halves, "loss") == pytest.approx(logs(whole, "loss"), rel=1e-4)
    assert logs(halves, "grad_norm") == pytest.approx(logs(whole, "grad_norm"), rel=1e-3)


def test_a_teacher_is_asked_only_while_a_loss_needs_it(tmp_path):
    trainer = make_trainer(tmp_path, losses={"clip": 1.0, "icl": {"weight": {0: 0, 0.5: 1.0}}})
    before = copy.deepcopy(trainer.model.losses.state_dict())
    seen = []
    step = trainer.training_step
    trainer.training_step = lambda *args: seen.append((trainer.teacher.calls, moved(trainer, before))) or step(*args)
    trainer.train()
    # A head that rests is no matter of the optimizer: it has no momentum, and does not decay.
    assert seen == [(0, False), (0, False), (0, False), (1, True)] and trainer.teacher.calls == 2


def test_the_pass_over_masked_images_rests_with_its_loss(tmp_path, monkeypatch):
    masked = []
    hiding = PatchDropping.hiding
    monkeypatch.setattr(Teacher, "prepare", lambda self, request: None)
    monkeypatch.setattr(PatchDropping, "hiding", lambda *args: masked.append(step()) or hiding(*args))
    trainer = make_trainer(tmp_path, losses={"clip": 1.0, "mfd": {"weight": {0: 0, 0.25: 1.0, 0.75: 0}}})

    def step():
        return trainer.state.global_step

    trainer.train()
    assert masked == [1, 2]


def moved(trainer, before):
    return any(not torch.equal(value, before[name]) for name, value in trainer.model.losses.state_dict().items())


def cascade(*weights):
    members = [Teacher(make_clip(24, 20, seed=seed)) for seed in (1, 2)]
    for member in members:
        member.processor = SimpleNamespace()
    return TeacherEnsemble(members, weights)


def test_a_cascade_asks_the_teachers_whose_turn_it_is(tmp_path):
    teacher = cascade({0: 1, 0.5: 0}, {0: 0, 0.25: 1})
    trainer = make_trainer(tmp_path, teacher=teacher)
    trainer.train()
    assert [member.calls for member in teacher.members] == [2, 3]
    assert logs(trainer, "weight/teacher_0") == [1, 1, 0, 0] and logs(trainer, "weight/teacher_1") == [0, 1, 1, 1]
    assert trainer.model.losses.terms["fd"].steps.tolist() == [1, 1]  # Both were on in one step.


CHANGING = {
    "weights": {"losses": CURRICULUM},
    "micro-batches": {"losses": CURRICULUM, **HALVES},
    "teachers": {"losses": {"clip": 1.0, "icl": 1.0, "fd": {"weight": {0: 0, 0.25: 4.0}}}},
}


@pytest.mark.parametrize("name", CHANGING)
def test_resume_across_a_change_equals_an_undisturbed_run(tmp_path, name):
    """Resume from before the change and at it, to the last bit, optimizer and running balance included."""

    def run(folder, **settings):
        weights = ({0: 1, 0.75: 0}, {0: 0, 0.5: 1}) if name == "teachers" else None
        teacher = cascade(*weights) if weights else True
        return make_run(folder, teacher=teacher, **CHANGING[name], **settings)

    whole = run(tmp_path / "whole")
    whole.train()
    for step in (1, 2):
        resumed = run(tmp_path / f"from {step}", save_strategy="no")
        resumed.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{step}"))
        assert_same(resumed, whole)


def test_resume_with_another_curriculum_is_refused(tmp_path):
    make_run(tmp_path, losses=CURRICULUM).train()
    # JSON has no numbers as keys. The curriculum is the same.
    same = {name: json.loads(json.dumps(spec)) for name, spec in CURRICULUM.items()}
    make_run(tmp_path, losses=same).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    other = CURRICULUM | {"crd": {"weight": {0: 1.0, 0.75: 0}}}
    with pytest.raises(ValueError, match=r"losses.crd.weight"):
        make_run(tmp_path, losses=other).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
