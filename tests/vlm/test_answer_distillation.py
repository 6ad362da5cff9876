"""Learning from a LLaVA: closed forms of its losses, and a trainer that sums them right."""

import math

import pytest
import torch
from llava_runs import losses, make_model, make_rows, make_teacher, make_trainer
from vlm_parts import image_processor

from hf_clip_kd.data import decode_image
from hf_clip_kd.vlm import FeatureCache, LlavaDataCollator, LlavaTrainingArguments, reading_features, tower_checksum
from hf_clip_kd.vlm.answer_distillation import answer_kl, visual_relation
from hf_clip_kd.vlm.teacher import answer_positions

# ---- The losses ----


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_of_two_words_is_that_of_a_coin(temperature):
    """Logits (a, 0) are a coin with P = sigmoid(a); the last word of a wider vocabulary does not count."""
    own, theirs = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.3])
    p, q = torch.sigmoid(theirs.double() / temperature), torch.sigmoid(own.double() / temperature)
    expected = temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    wide = torch.stack([theirs, torch.zeros(2), torch.full((2,), 9.0)], dim=1)
    found = answer_kl(torch.stack([own, torch.zeros(2)], dim=1), wide, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert answer_kl(wide, wide, temperature).abs().max() < 1e-6


def test_answers_are_read_one_word_before_their_label():
    states = torch.arange(10.0).reshape(2, 5, 1)
    labels = torch.tensor([[-100, -100, 7, 7, -100], [7, -100, -100, -100, 7]])
    assert answer_positions(states, labels).flatten().tolist() == [1, 2, 8]


def test_relation_of_two_tokens():
    """Two unit vectors at an angle have rows of similarities (1, cos)."""
    own, theirs = 0.3, 1.1
    student = torch.tensor([[[1.0, 0.0], [math.cos(own), math.sin(own)]]]) * 4
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [math.cos(theirs), 0.0, math.sin(theirs)]]])
    square = visual_relation(student, teacher, "square")
    assert square.item() == pytest.approx((math.cos(own) - math.cos(theirs)) ** 2 / 2, rel=1e-5)
    tau = 0.5
    p, q = (1 / (1 + math.exp((math.cos(angle) - 1) / tau)) for angle in (theirs, own))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert visual_relation(student, teacher, "kl", tau).item() == pytest.approx(expected, rel=1e-4)


# ---- The trainer ----


def run(folder, teacher, features=None, images=None, **settings):
    model, processor = make_model()
    trainer = make_trainer(folder, model, processor, features=features, teacher=teacher, images=images, **settings)
    trainer.train()
    return trainer


ALL = {"kl_weight": 0.5, "kl_temperature": 2.0, "relation_weight": 3.0, "relation_temperature": 0.02}
ONE = {"max_steps": 1, "group_by_modality_length": False, "train_sampling_strategy": "sequential"}


def means(teacher, rows, temperature=2.0, tau=0.02):
    """The three terms, row by row and in float64: labels, KL and relation."""
    model, processor = make_model()
    labels, kl, relation = [], [], []
    collator = LlavaDataCollator(processor)
    for row in rows:
        batch = collator([row])
        with torch.no_grad():
            own = model(**{name: value for name, value in batch.items() if name != "labels"})
            theirs = teacher.model(**{name: value for name, value in batch.items() if name != "labels"})
        keep = batch["labels"][0, 1:] != -100
        q, p = (x.logits[0, :-1][keep].double() / temperature for x in (own, theirs))
        p, q = p.softmax(-1), q.softmax(-1)
        kl += (temperature**2 * (p * (p / q).log()).sum(-1)).tolist()
        words = batch["labels"][0, 1:][keep]
        labels += (-own.logits[0, :-1][keep].double().log_softmax(-1)[range(len(words)), words]).tolist()
        if "pixel_values" in batch:
            a, b = (
                torch.nn.functional.normalize(x.image_hidden_states.double().reshape(16, -1), dim=-1)
                for x in (own, theirs)
            )
            q, p = (a @ a.T / tau).softmax(-1), (b @ b.T / tau).softmax(-1)
            relation.append((p * (p / q).log()).sum(-1).mean().item())
    return [sum(values) / len(values) for values in (labels, kl, relation)]


@pytest.mark.parametrize("accumulation", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_loss_is_the_sum_of_means_however_a_step_is_cut(accumulation, tmp_path):
    """Rows 3 of 8 has no image: the relation is a mean over images, the KL over tokens."""
    teacher, rows = make_teacher(), make_rows(8)
    trainer = run(
        tmp_path,
        teacher,
        dataset=rows,
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
        **ONE,
        **ALL,
    )
    labels, kl, relation = means(teacher, rows)
    (log,) = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert log["loss/kl"] == pytest.approx(kl, rel=1e-3)
    assert log["loss/relation"] == pytest.approx(relation, rel=1e-3)
    assert log["loss"] == pytest.approx(labels + 0.5 * kl + 3 * relation, rel=1e-3)
    assert kl > 1e-3 and relation > 1e-4


@pytest.mark.slow
def test_gradients_are_those_of_a_whole_step(tmp_path):
    teacher, weights = make_teacher(), []
    for accumulation in (1, 4):
        trainer = run(
            tmp_path / str(accumulation),
            teacher,
            dataset=make_rows(8),
            per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            **ONE,
            **ALL,
        )
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)


def test_teacher_stays_and_is_in_no_checkpoint(tmp_path):
    teacher = make_teacher()
    before = tower_checksum(teacher.model)
    trainer = run(tmp_path, teacher, **ALL)
    assert tower_checksum(teacher.model) == before and not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    plain = run(tmp_path / "plain", None)
    assert trainer.model.state_dict().keys() == plain.model.state_dict().keys()
    assert "teacher" not in plain.run_identity() and trainer.run_identity()["teacher"] == teacher.identity()
    # An evaluation asks the student alone.
    trainer.teacher.model = None
    assert trainer.evaluate(make_rows(4))["eval_loss"] > 0


@pytest.mark.slow
def test_a_teacher_brings_the_answers_nearer(tmp_path):
    teacher = make_teacher()
    trainer = run(tmp_path, teacher, max_steps=12, kl_weight=50.0)
    kl = [entry["loss/kl"] for entry in trainer.state.log_history if "loss/kl" in entry]
    assert len(kl) == 12 and kl[-1] < 0.7 * kl[0]


@pytest.mark.slow
def test_stored_features_of_both_are_like_pixels(tmp_path):
    teacher = make_teacher("resnet", -1)
    model, processor = make_model()
    pictures = [image for images in make_rows()["images"] for image in images]
    online = run(tmp_path / "online", teacher, images=teacher.images(processor), **ALL)
    own, theirs = FeatureCache(tmp_path / "s", model, processor), None
    own.add(pictures, decode_image)
    decoding = run_stored(tmp_path / "decoding", model, processor, teacher, own, teacher.images(processor, own))
    theirs = FeatureCache(tmp_path / "t", teacher.model, teacher.processor)
    theirs.add(pictures, decode_image)
    with reading_features(teacher.model):
        model, processor = make_model()
        stored = run_stored(tmp_path / "stored", model, processor, teacher, own, theirs)
    assert losses(decoding) == pytest.approx(losses(online), rel=1e-4)
    assert losses(stored) == pytest.approx(losses(online), rel=1e-4)


def run_stored(folder, model, processor, teacher, features, images):
    trainer = make_trainer(folder, model, processor, features=features, teacher=teacher, images=images, **ALL)
    with reading_features(model):
        trainer.train()
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [False, True])
def test_resume_is_exact(reuse, tmp_path):
    settings = ALL | {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "reuse_projector": reuse}
    whole = run(tmp_path / "whole", make_teacher(), **settings)
    model, processor = make_model()
    resumed = make_trainer(tmp_path / "resumed", model, processor, teacher=make_teacher(), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(resumed)[-3:] == losses(whole)[-3:]
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    other = make_trainer(tmp_path / "other", *make_model(), teacher=make_teacher(seed=4), **settings)
    with pytest.raises(ValueError, match="teacher.*was .* is .*"):
        other.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))


# ---- Bad settings ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relation_form": "cosine"}, "relation_form='cosine'.*kl and square"),
        ({"kl_temperature": 0.0}, "kl_temperature=0.0.*above 0"),
        ({"relation_temperature": -1.0}, "relation_temperature=-1.0.*above 0"),
        ({"kl_weight": -1.0}, "kl_weight=-1.0.*0 or a number above"),
        ({"reuse_projector": True, "lora": {"r": 2}}, "`reuse_projector` with `lora`"),
    ],
)
def test_values_that_make_no_sense(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        LlavaTrainingArguments(str(tmp_path), use_cpu=True, **settings)


def test_settings_and_teacher_that_do_not_go_together(tmp_path):
    model, processor = make_model()
    with pytest.raises(ValueError, match="`relation_weight=1.0` without a teacher.*teacher_model_name_or_path"):
        make_trainer(tmp_path, model, processor, relation_weight=1.0)
    with pytest.raises(ValueError, match="`kl_weight=0` with nothing else.*--relation_weight 1"):
        make_trainer(tmp_path, model, processor, teacher=make_teacher(), kl_weight=0.0)


def test_teacher_of_another_vocabulary_is_refused(tmp_path):
    model, processor = make_model()
    teacher = make_teacher()
    teacher.processor.tokenizer.add_tokens(["zebra"])
    with pytest.raises(ValueError, match="'zebra' is number [0-9]+ there and None here.*same vocabulary"):
        make_trainer(tmp_path, model, processor, teacher=teacher)


def test_teacher_that_would_see_the_students_pixels_is_refused(tmp_path):
    model, processor = make_model()
    teacher = make_teacher()
    teacher.processor.image_processor = image_processor(64)
    with pytest.raises(ValueError, match="gives the teacher no images of its own.*teacher_images"):
        make_trainer(tmp_path, model, processor, teacher=teacher)
