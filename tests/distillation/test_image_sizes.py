"""Sizes drawn for each step: the same for all micro-batches, other ones for the teacher, exact after a resume."""

import pytest
import torch
from checkpointed_runs import assert_same
from miniature import Pairs, Teacher, logs, make_args, make_clip, make_trainer
from teacher_models import processor

from hf_clip_kd.distillation.image_sizes import ImageSizes, resized
from hf_clip_kd.teachers import CLIPTeacher

LOSSES = {"clip": 1.0, "patch": 1.0}


def make_teacher():
    return CLIPTeacher(make_clip(24, 20, seed=1), processor=processor(16, 8))


def make_run(folder, **changes):
    sizes = {"image_sizes": [8, 16, 24], "teacher_image_sizes": [16, 32]}
    return make_trainer(folder, teacher=make_teacher(), losses=LOSSES, **sizes | changes)


def spy(monkeypatch):
    seen = []
    call = ImageSizes.__call__

    def watched(self, inputs, step, training):
        found = call(self, inputs, step, training)
        seen.append((step, training, found["pixel_values"].shape[-1], found["teacher_pixel_values"].shape[-1]))
        return found

    monkeypatch.setattr(ImageSizes, "__call__", watched)
    return seen


def test_each_step_draws_and_evaluations_do_not(monkeypatch, tmp_path):
    seen = spy(monkeypatch)
    trainer = make_run(
        tmp_path,
        max_steps=8,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        eval_dataset=Pairs(8),
        eval_strategy="steps",
        eval_steps=8,
    )
    trainer.train()
    assert all(torch.isfinite(torch.tensor(logs(trainer, "loss/patch")))) and len(logs(trainer, "loss")) == 8
    training = {step: set() for step in range(8)}
    for step, trains, own, theirs in seen:
        if trains:
            training[step].add((own, theirs))
        else:
            assert (own, theirs) == (16, 16)
    assert all(len(pairs) == 1 for pairs in training.values())
    drawn = [next(iter(pairs)) for pairs in training.values()]
    assert {own for own, _ in drawn} == {8, 16, 24} and {theirs for _, theirs in drawn} == {16, 32}
    assert len(set(drawn)) > 3, "student and teacher are drawn apart"


def test_a_resumed_run_is_exact(tmp_path):
    whole = make_run(tmp_path / "whole", save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_run(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert_same(resumed, whole)
    saved = make_clip().from_pretrained(tmp_path / "whole" / "checkpoint-4")
    assert saved.config.vision_config.image_size == 16


def test_a_student_without_drawn_sizes_keeps_its_own(tmp_path, monkeypatch):
    seen = spy(monkeypatch)
    make_run(tmp_path, image_sizes=None).train()
    assert {own for *_, own, _ in seen} == {16} and {theirs for *_, theirs in seen} == {16, 32}


def test_images_are_made_smaller_without_aliases():
    stripes = torch.arange(32.0).remainder(2).expand(1, 3, 32, 32)
    assert resized(stripes, 32) is stripes
    assert (resized(stripes, 8)[..., 1:-1] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("teacher", [None, Teacher(make_clip(24, 20, seed=1))], ids=["none", "function"])
def test_teachers_without_an_image_tower_are_refused(teacher, tmp_path):
    args = make_args(tmp_path, teacher_image_sizes=[16, 32], losses={"clip": 1.0})
    with pytest.raises(
        ValueError, match=r"teacher_image_sizes=\[16, 32\]` with .*single model of transformers or timm"
    ):
        ImageSizes(args, make_clip(), teacher)
