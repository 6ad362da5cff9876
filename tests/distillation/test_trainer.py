"""DistillationTrainer against a bare loop, and what it saves, restores and refuses."""

import copy
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from every_loss import make_run as make_every
from miniature import (
    ALL_LOSSES,
    BATCH,
    LEARNING_RATE,
    STEPS,
    Pairs,
    best_of,
    collate,
    logs,
    make_args,
    make_clip,
    make_trainer,
)
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel

from hf_clip_kd.distillation.model import DistillationModel
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.losses import LossSum
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.models.towers.tokens import pooled
from hf_clip_kd.teachers.reader import Captioner, CaptionerConfig


def test_training_equals_a_bare_loop(tmp_path):
    trainer = make_trainer(tmp_path, max_grad_norm=0.5)
    student, teacher = make_clip(), trainer.teacher
    losses = LossSum(ALL_LOSSES, CLIPDims.of(student), teacher.dims)
    losses.load_state_dict(trainer.model.losses.state_dict())
    trainer.train()

    parameters = [*student.parameters(), *losses.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    data, values, norms = Pairs(), [], []
    for step in range(STEPS):
        batch = collate([data[i] for i in range(step * BATCH, (step + 1) * BATCH)])
        features = CLIPFeatures(
            pooled(student.get_image_features(pixel_values=batch["pixel_values"])),
            pooled(student.get_text_features(input_ids=batch["input_ids"])),
            logit_scale=student.logit_scale.exp(),
        )
        loss, _ = losses(features, teacher(**batch))
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(parameters, 0.5).item())
        optimizer.step()
        values.append(loss.item())

    assert logs(trainer, "loss") == pytest.approx(values, rel=1e-5)
    # The norm that is clipped counts the losses' heads.
    assert logs(trainer, "grad_norm") == pytest.approx(norms, rel=1e-4)
    for name, expected in student.state_dict().items():
        torch.testing.assert_close(trainer.student.state_dict()[name], expected, rtol=1e-3, atol=1e-5, msg=name)


def test_weights_in_half_precision_are_trained_in_float32(tmp_path):
    start = make_clip().to(torch.bfloat16)
    before = copy.deepcopy(start.state_dict())
    trainer = make_trainer(tmp_path, start, losses={"clip": 1.0}, learning_rate=1e-5)
    trainer.train()
    trainer.save_model()
    saved = load_file(tmp_path / "model.safetensors")
    # One step of 1e-5 is less than half a step of bfloat16 from 0.005 on.
    matrices = [name for name in saved if saved[name].ndim == 2]
    moved = [(saved[name] != before[name].float()).float().mean() for name in matrices]
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32} and torch.stack(moved).mean() > 0.8
    assert CLIPModel.from_pretrained(tmp_path).dtype == torch.float32

    asked_for = make_trainer(tmp_path, make_clip(), losses={"clip": 1.0}, dtype="bfloat16")
    assert asked_for.student.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="`dtype='int8'` is no type.*float32, bfloat16, float16"):
        make_args(tmp_path, dtype="int8")


def test_texts_longer_than_the_students_tower_are_refused(tmp_path):
    processor = SimpleNamespace(tokenizer=clip_tokenizer(600, 77))
    with pytest.raises(ValueError, match="tokenizer of the SimpleNamespace does not fit.*tokens at most"):
        DistillationTrainer(
            make_clip(), make_args(tmp_path, losses="clip"), None, Pairs(), None, collate, None, processor
        )
    model = DistillationModel(make_clip(), {"clip": 1.0}, None)
    batch = collate([Pairs()[0]]) | {"input_ids": torch.ones(1, model.context_length + 1, dtype=torch.long)}
    with pytest.raises(ValueError, match=f"texts of {model.context_length + 1} tokens, and the student's text tower"):
        model.student_features(**batch)


def test_parts_are_logged_one_by_one_and_add_up(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    for entry in [entry for entry in trainer.state.log_history if "loss" in entry]:
        total = sum(weight * entry[f"loss/{name}"] for name, weight in ALL_LOSSES.items())
        assert entry["loss"] == pytest.approx(total, rel=1e-5)
        assert entry["logit_scale"] > 1


@pytest.mark.parametrize("split", [{}, {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}])
def test_statistics_are_means_since_the_last_log(tmp_path, split, monkeypatch):
    statistics = DistillationModel.statistics
    monkeypatch.setattr(
        DistillationModel,
        "statistics",
        lambda self, student, teacher: (
            statistics(self, student, teacher)
            | {"pair_cosine": F.cosine_similarity(student.image_embeds, student.text_embeds).mean()}
        ),  # the one line
    )
    each, pairs = (make_trainer(tmp_path, logging_steps=steps, **split) for steps in (1, 2))
    each.train(), pairs.train()
    for name in ("pair_cosine", "embedding_variance/image", "embedding_variance/text"):
        first, second, third, fourth = logs(each, name)
        expected = [(first + second) / 2, (third + fourth) / 2]
        assert logs(pairs, name) == pytest.approx(expected, rel=1e-5, abs=1e-7), name
    assert len(set(logs(each, "pair_cosine"))) == STEPS


def test_plain_accumulation_averages_micro_batches(tmp_path):
    # `fd` is a mean over samples, so two half batches must train like one whole one.
    losses = {"fd": 1.0}
    whole = make_trainer(tmp_path, losses=losses)
    halves = make_trainer(
        tmp_path,
        losses=losses,
        per_device_train_batch_size=BATCH // 2,
        gradient_accumulation_steps=2,
        grad_cache=False,
    )
    halves.model.losses.load_state_dict(whole.model.losses.state_dict())
    whole.train(), halves.train()
    assert logs(halves, "loss") == pytest.approx(logs(whole, "loss"), rel=1e-4)
    assert logs(halves, "grad_norm") == pytest.approx(logs(whole, "grad_norm"), rel=1e-3)


def test_heads_and_scales_are_trained_and_scales_do_not_decay(tmp_path):
    trainer = make_trainer(tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    decays = {name: decay[id(p)] for name, p in trainer.model.named_parameters()}
    assert decays["losses.terms.fd.image_proj.weight"] == trainer.args.weight_decay > 0
    assert {decays[name] for name in decays if "logit_scale" in name} == {0.0}
    for name in ("losses.terms.fd.image_proj.weight", "losses.terms.icl.logit_scale", "logit_scale"):
        assert not torch.equal(trainer.model.get_parameter(name), before[name]), name


def test_learned_scales_are_clamped(tmp_path):
    """Those of the losses are, too, and start at the bound if it is lower than 14.3."""
    trainer = make_trainer(tmp_path, max_logit_scale=10.0, learning_rate=1.0, losses={"clip": 1.0, "icl": 1.0})
    own = trainer.model.losses.terms["icl"].logit_scale
    assert own.exp().item() == pytest.approx(10.0)
    own.register_hook(lambda gradient: -torch.ones_like(gradient))  # it would grow without end
    trainer.train()
    assert own.exp().item() == pytest.approx(10.0) and max(logs(trainer, "logit_scale")) <= 10.0 + 1e-4
    torch.testing.assert_close(trainer.student.logit_scale, trainer.model.logit_scale[0].detach(), rtol=0, atol=0)


def test_scale_of_a_bfloat16_student_stays_in_float32_and_moves(tmp_path):
    trainer = make_trainer(tmp_path, student=make_clip().to(torch.bfloat16), learning_rate=1e-3)
    trainer.teacher.model.float()
    before = trainer.model.logit_scale.item()

    def to_bfloat16(rows):
        batch = collate(rows)
        return batch | {
            "pixel_values": batch["pixel_values"].bfloat16(),
            "teacher_pixel_values": batch["pixel_values"],
        }

    trainer.data_collator = to_bfloat16
    trainer.train()
    assert trainer.model.logit_scale.dtype == torch.float32
    # A step of 1e-3 would round away in bfloat16, whose spacing at 2.66 is 0.0156.
    assert 1e-4 < abs(trainer.model.logit_scale.item() - before) < 0.0156


def test_teacher_is_frozen_in_eval_and_unchanged(tmp_path):
    trainer = make_trainer(tmp_path)
    before = copy.deepcopy(trainer.teacher.state_dict())
    trainer.train()
    assert not trainer.teacher.model.training
    for name, value in trainer.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in trainer.teacher.parameters()}


def test_saved_folder_is_a_plain_model_with_the_heads_beside_it(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    trainer.save_model()
    loaded, info = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert loaded.logit_scale.shape == ()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, trainer.student.state_dict()[name]), name
    batch = collate([Pairs()[i] for i in range(4)])
    with torch.no_grad():
        ours = trainer.student.eval()(**batch).logits_per_image
        torch.testing.assert_close(loaded.eval()(**batch).logits_per_image, ours, rtol=0, atol=1e-5)
    assert not any("losses" in name for name in load_file(tmp_path / "model.safetensors"))
    heads = load_file(tmp_path / "losses.safetensors")
    assert any("fd" in name for name in heads) and heads["logit_scale"].shape == (1,)
    saved = json.loads((tmp_path / "training_args.json").read_text())
    assert saved["losses"] == ALL_LOSSES
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("reloaded", [False, True], ids=["fresh", "from_pretrained"])
def test_resume_equals_an_undisturbed_run(tmp_path, reloaded):
    make_clip().save_pretrained(tmp_path / "start")

    def student():
        return CLIPModel.from_pretrained(tmp_path / "start") if reloaded else make_clip()

    whole = make_trainer(tmp_path / "whole", student=student(), save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_trainer(tmp_path / "resumed", student=student())
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == STEPS
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_resume_with_other_losses_is_refused(tmp_path):
    make_trainer(tmp_path, save_strategy="steps", save_steps=2).train()
    other = make_trainer(tmp_path, losses={"clip": 1.0})
    with pytest.raises(ValueError, match="losses.crd was .*, is None"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    (tmp_path / "checkpoint-2" / "losses.safetensors").unlink()
    with pytest.raises(ValueError, match="losses.safetensors is missing"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_best_model_is_loaded_at_the_end(tmp_path):
    trainer = make_trainer(
        tmp_path,
        **best_of(0.1, 0.9, 0.2, 0.3),
    )
    trainer.train()
    best = CLIPModel.from_pretrained(tmp_path / "checkpoint-2").state_dict()
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, best[name]), name


def test_evaluate_gives_loss_parts_and_evaluator_metrics(tmp_path):
    trainer = make_trainer(tmp_path, eval_dataset=Pairs(16), evaluator=lambda model, processor: {"acc1": 0.5})
    metrics = trainer.evaluate()
    assert metrics["eval_acc1"] == 0.5
    total = sum(weight * logs(trainer, f"eval_loss/{name}")[0] for name, weight in ALL_LOSSES.items())
    assert metrics["eval_loss"] == pytest.approx(total, rel=1e-5)


def test_trains_without_a_teacher(tmp_path):
    trainer = make_trainer(tmp_path, teacher=False, losses={"clip": 1.0}, max_steps=24, dataset=Pairs(BATCH))
    trainer.train()
    assert logs(trainer, "loss")[-1] < 0.7 * logs(trainer, "loss")[0]


def test_non_finite_loss_names_its_term(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.losses.terms["fd"].image_proj.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at step 0: \{'fd': nan\}"):
        trainer.train()


def test_defects_are_told_and_frozen_heads_stay(tmp_path, caplog):
    losses = {"clip": 1.0, "icl": {"frozen_heads": 2}, "fd": {"unsynced_heads": 2}}
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(tmp_path, losses=losses)
    assert "defects of published code on purpose: frozen_heads: 2 of icl; unsynced_heads: 2 of fd" in caplog.text
    before = copy.deepcopy(trainer.model.losses.state_dict())
    trainer.train()
    after = trainer.model.losses.state_dict()
    assert {name for name in after if torch.equal(after[name], before[name])} == {
        name for name in after if "icl" in name
    }
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in trainer.model.losses.terms["icl"].parameters()}


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="need a teacher"):
        make_trainer(tmp_path, teacher=False, losses={"fd": 1.0})
    with pytest.raises(ValueError, match="clipp"):
        make_trainer(tmp_path, losses={"clipp": 1.0})
    with pytest.raises(ValueError, match="`data_collator=None`"):
        DistillationTrainer(make_clip(), make_args(tmp_path))
    with pytest.raises(ValueError, match="nothing to evaluate"):
        make_trainer(tmp_path).evaluate()
    with pytest.raises(ValueError, match="is not an objective"):
        make_args(tmp_path, losses={})
    with pytest.raises(ValueError, match="remove_unused_columns=True"):
        make_args(tmp_path, remove_unused_columns=True)


def test_a_reader_is_no_part_of_the_model_nor_of_its_folder(tmp_path):
    run = make_every(tmp_path, ["reader", "clip"], save_strategy="steps", save_steps=2)
    (reader,) = run.readers
    before = copy.deepcopy(reader.state_dict())
    run.train()
    run.save_model()
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())
    assert {id(p) for p in reader.parameters()}.isdisjoint(id(p) for p in run.model.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in reader.parameters()) and not reader.training
    heads = load_file(tmp_path / "losses.safetensors")
    assert {name.split(".")[3] for name in heads if "reader" in name} == {"token_proj"}
    for folder in (tmp_path, tmp_path / "checkpoint-2"):
        assert not any("token_proj" in name or "words" in name for name in load_file(folder / "model.safetensors"))
        assert not any(name.stat().st_size and "reader" in name.name for name in folder.iterdir())
    CLIPModel.from_pretrained(tmp_path)
    assert len(set(logs(run, "loss/reader"))) == STEPS


def test_a_run_resumes_with_its_own_reader_only(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2}
    whole = make_every(tmp_path, ["reader"], **options)
    whole.train()
    again = make_every(tmp_path, ["reader"], **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert logs(again, "loss")[-1] == logs(whole, "loss")[-1]
    other = make_every(tmp_path, ["reader"], **options)
    other.readers[0].image.weight.mul_(2)
    with pytest.raises(ValueError, match="readers"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_readers_that_the_losses_name_are_loaded(tmp_path):
    sizes = {"token_dim": 32, "num_tokens": 16, "vocab_size": 600, "hidden_size": 16, "num_heads": 2}
    Captioner(CaptionerConfig(**sizes)).save_pretrained(tmp_path / "captioner")
    clip_tokenizer(600).save_pretrained(tmp_path / "captioner")
    losses = {"reader": {"reader": str(tmp_path / "captioner")}, "caption": 1.0}
    run = make_every(tmp_path, losses=losses, readers=None)
    assert type(run.readers[0]).__name__ == "CaptionerReader"
    run.train()
    assert len(logs(run, "loss/reader")) == len(logs(run, "loss/caption")) == STEPS
    with pytest.raises(ValueError, match="The loss 'reader' has no reader"):
        make_every(tmp_path, ["reader"], readers=None)
    assert make_every(tmp_path, ["clip"]).readers == []
