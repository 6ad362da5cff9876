"""Sizes drawn for each step: the same for all micro-batches, other ones for the teacher, exact after a resume."""

import pytest
import torch
from checkpointed_runs import as_of_version_2, assert_same
from miniature import Pairs, Teacher, logs, make_args, make_clip, make_trainer
from teacher_models import processor

from hf_clip_kd.distillation.image_sizes import ImageSizes, resized
from hf_clip_kd.models import resize_images
from hf_clip_kd.teachers import CLIPTeacher, TeacherEnsemble

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


def test_a_resized_student_resumes_at_its_size(tmp_path):
    def run(folder, **changes):
        student, _ = resize_images(make_clip(), processor(16, 8), 24)
        return make_run(folder, student=student, image_sizes=[24], **changes)

    whole = run(tmp_path / "whole", save_strategy="steps", save_steps=2)
    whole.train()
    resumed = run(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert_same(resumed, whole)
    assert make_clip().from_pretrained(tmp_path / "whole" / "checkpoint-4").config.vision_config.image_size == 24


def test_a_student_without_drawn_sizes_keeps_its_own(tmp_path, monkeypatch):
    seen = spy(monkeypatch)
    make_run(tmp_path, image_sizes=None).train()
    assert {own for *_, own, _ in seen} == {16} and {theirs for *_, theirs in seen} == {16, 32}


@pytest.mark.parametrize("views", [["teacher_0_"], ["teacher_0_", "teacher_1_"], []], ids=["one", "both", "none"])
def test_members_without_a_view_see_the_images_before_they_are_resized(views, tmp_path):
    ensemble = TeacherEnsemble([make_teacher(), make_teacher()])
    sizes = ImageSizes(make_args(tmp_path, image_sizes=[8]), make_clip(), ensemble)
    images = torch.randn(2, 3, 16, 16)
    own = {f"{view}pixel_values": torch.randn(2, 3, 16, 16) for view in views}
    found = sizes({"pixel_values": images} | own, 0, training=True)
    assert found["pixel_values"].shape[-1] == 8
    for prefix in ("teacher_0_", "teacher_1_"):
        name = f"{prefix}pixel_values"
        assert torch.equal(found[name], own.get(name, images))


def test_small_images_are_named_once(caplog, tmp_path):
    sizes = ImageSizes(make_args(tmp_path, image_sizes=[16, 24]), make_clip(), None)
    sizes({"pixel_values": torch.randn(2, 3, 16, 16)}, 0, training=False)
    assert not caplog.records, "an evaluation sees the size of its own"
    for _ in range(2):
        sizes({"pixel_values": torch.randn(2, 3, 16, 16)}, 0, training=True)
    assert [record.getMessage()[:60] for record in caplog.records] == [
        "Images of 16 pixels are enlarged to sizes up to 24, which sh"
    ]


def test_a_trial_of_memory_sees_the_largest_sizes(tmp_path, monkeypatch):
    seen = spy(monkeypatch)
    trainer = make_run(
        tmp_path, image_sizes=[8, 8, 8, 24], teacher_image_sizes=[16, 16, 32], auto_find_batch_size=True
    )
    trainer.train()
    assert seen[0][2:] == (24, 32) and {own for *_, own, _ in seen} == {8, 24}


def test_a_run_resumes_with_its_own_sizes_only(tmp_path):
    make_run(tmp_path, save_strategy="steps", save_steps=2).train()
    checkpoint = tmp_path / "checkpoint-2"
    other = make_run(tmp_path)
    other.teacher.processor.image_processor.crop_size = {"height": 24, "width": 24}
    with pytest.raises(ValueError, match=r"geometry.teacher_ was \[16, 16\], is \[24, 24\]"):
        other.train(resume_from_checkpoint=str(checkpoint))
    # Checkpoints of earlier versions do not tell them.
    as_of_version_2(checkpoint, "geometry")
    other.train(resume_from_checkpoint=str(checkpoint))


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
