"""Several teachers as one, functions as teachers, and what a recipe may say of either."""

import pytest
import torch
from miniature import Pairs, collate, logs, make_args, make_clip
from teacher_models import TEXTS, images, processor, tiny_clip, tiny_dual_encoder, tiny_siglip
from vision_teachers import MODELS, crop

from hf_clip_kd.data import CLIPDataCollator
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.models.towers.tokens import pooled
from hf_clip_kd.teachers import TeacherEnsemble, load_teacher
from hf_clip_kd.teachers.clip import CLIPTeacher
from hf_clip_kd.teachers.function import FunctionTeacher
from hf_clip_kd.teachers.processors import TeacherProcessor


def clip(**options):
    model, processor = tiny_clip()
    return CLIPTeacher(model, processor=processor, **options)


def siglip():
    model, processor = tiny_siglip()
    return CLIPTeacher(model, processor=processor)


def dino():
    return CLIPTeacher(MODELS["dinov2"][0](), processor=crop())


def rows():
    return [{"image": image, "text": text} for image, text in zip(images(), TEXTS, strict=True)]


# ---- Ensembles ----


@pytest.mark.parametrize("train", [True, False])
def test_each_member_sees_the_batch_in_its_own_way(train):
    """One crop; what agrees with the student's view or with another teacher's is made and tokenized once."""
    members = [clip(), siglip(), dino(), siglip()]
    teacher = TeacherEnsemble(members)
    _, student = tiny_clip()
    calls = []
    for member in members[1::2]:
        tokenizer = member.processor.tokenizer
        member.processor.tokenizer = lambda *a, t=tokenizer, **k: calls.append(len(a[0])) or t(*a, **k)
        member.processor.tokenizer.model_max_length = 16
    collator = CLIPDataCollator(student, teacher.processor, train=train)
    calls.clear()
    torch.manual_seed(0)
    batch = collator(rows())
    names = {"pixel_values", "teacher_1_pixel_values", "teacher_2_pixel_values", "teacher_3_pixel_values"}
    assert {name for name in batch if "pixel" in name} == names
    assert batch["teacher_1_pixel_values"] is batch["teacher_3_pixel_values"]
    assert {name for name in batch if "input_ids" in name} == {
        "input_ids",
        "teacher_1_input_ids",
        "teacher_3_input_ids",
    }
    assert "teacher_1_attention_mask" not in batch

    features = teacher.of_batch(batch)
    assert features.tensors() == {} and len(features.members) == 4
    for index, member in enumerate(members):
        collator = CLIPDataCollator(student, member.processor, train=train)
        alone = member.of_batch(collator(rows()) if not train else alone_batch(collator))
        for name, value in alone.tensors().items():
            torch.testing.assert_close(getattr(features.members[index], name), value, msg=f"{index} {name}")
    assert features.members[2].text_embeds is None


def alone_batch(collator):
    torch.manual_seed(0)  # the same crops
    return collator(rows())


def test_dims_of_an_ensemble():
    teacher = TeacherEnsemble([clip(), siglip(), dino()], weights=[2, 1, 0.5])
    expected = (
        CLIPDims(24, weight=2.0),
        CLIPDims(32, has_bias=True, weight=1.0),
        CLIPDims(32, has_text=False, weight=0.5),
    )
    assert teacher.dims == CLIPDims(24, members=expected)
    teacher.prepare(FeatureRequest(teacher_layer=-2))
    assert [member.token_dim for member in teacher.dims.members] == [32, 32, 32]


def make_trainer(folder, **changes):
    """A student with two teachers of unlike widths, layouts and temperatures."""
    teachers = [as_function(make_clip(24, 20, seed=1), 20, 50.0), as_function(make_clip(32, 16, seed=2), 16, 5.0)]
    return DistillationTrainer(
        model=make_clip(),
        args=make_args(folder, losses={"clip": 1.0, "crd": 1.0, "icl": 1.0, "fd": 4.0, "reinforced": 1.0}, **changes),
        teacher_model=TeacherEnsemble(teachers, weights=[1, 3]),
        train_dataset=Pairs(),
        data_collator=collate,
    )


def as_function(model, width, logit_scale=20.0):
    """A model behind a plain function."""

    def features(pixel_values, input_ids, attention_mask=None):
        return CLIPFeatures(
            pooled(model.get_image_features(pixel_values=pixel_values)),
            pooled(model.get_text_features(input_ids=input_ids)),
        )

    model.eval()
    return FunctionTeacher(features, processor=processor(16), dims=CLIPDims(width), logit_scale=logit_scale)


def test_training_with_an_ensemble(tmp_path):
    trainer = make_trainer(tmp_path / "whole", max_steps=16, num_train_epochs=4)
    trainer.train()
    for name in ("loss/crd", "loss/fd", "loss/reinforced", "loss"):
        assert sum(logs(trainer, name)[-4:]) < sum(logs(trainer, name)[:4]), name
    heads = trainer.model.losses.terms["fd"].losses
    assert [tuple(loss.image_proj.weight.shape) for loss in heads] == [(20, 12), (16, 12)]
    assert not any("teacher" in name for name, _ in trainer.model.named_parameters())
    assert trainer.model.losses.terms["fd"].steps == 16


def test_resumed_training_keeps_the_balance(tmp_path):
    whole = make_trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)


def test_balance_of_accumulated_batches(tmp_path):
    """GradCache runs the losses of a step once, on all its pairs, and also the measuring."""
    settings = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 3}
    whole = make_trainer(tmp_path / "a", **settings)
    parts = make_trainer(tmp_path / "b", **settings, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    whole.train(), parts.train()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert parts.model.losses.terms["crd"].steps == 3


# ---- Recipes ----


def test_load_teacher(tmp_path):
    folders = []
    for name, build in (("clip", tiny_clip), ("siglip", tiny_siglip)):
        model, processor = build()
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        folders.append(str(tmp_path / name))
    single = load_teacher(folders[0], dtype="bfloat16")
    assert isinstance(single, CLIPTeacher) and single.dtype == torch.bfloat16
    assert load_teacher(single) is single
    second = {"name": folders[1], "weight": 0.5, "dtype": "float16", "logit_scale": 30.0, "device": "cpu"}
    teacher = load_teacher([folders[0], second, dino()], dtype="bfloat16")
    assert [member.dims.embed_dim for member in teacher.members] == [24, 32, 32]
    assert [member.dtype for member in teacher.members[:2]] == [torch.bfloat16, torch.float16]
    assert teacher.weights == [1.0, 0.5, 1.0] and teacher.members[1].own_device == "cpu"
    assert teacher.members[1].logit_scale.exp().item() == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: load_teacher([]), r"has 0 teachers .*at least one teacher"),
        (lambda: load_teacher([{"name": dino(), "weight": 0}]), r"weights \[0\].*above 0"),
        (lambda: TeacherEnsemble([dino()], [1.0, 2.0]), r"1 teachers and the weights \[1.0, 2.0\]"),
        (lambda: load_teacher([{"weight": 2}]), "has no name. Allowed are name, weight.*for example"),
        (lambda: load_teacher({"name": dino(), "dtype": "float16"}), "CLIPTeacher is made already .*only a `weight`"),
        (lambda: load_teacher({"name": "x", "wieght": 2}), r"unknown keys \['wieght'\]. Allowed are name, weight"),
        (lambda: load_teacher("x", dtype="half"), "dtype 'half' is unknown. Allowed are float32, bfloat16, float16"),
    ],
)
def test_bad_teachers(build, match):
    with pytest.raises(ValueError, match=match):
        build()


# ---- Functions ----


def test_function_is_what_it_wraps():
    model = tiny_dual_encoder("chinese_clip")
    by_name = CLIPTeacher(model, processor=processor(), logit_scale=20.0)
    text = by_name.processor.tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
    batch = {"pixel_values": torch.randn(3, 3, 32, 32)}
    batch |= {name: text[name] for name in ("input_ids", "attention_mask")}
    batch |= {f"synthetic_{name}": text[name].flip(0) for name in ("input_ids", "attention_mask")}

    def function(pixel_values, input_ids, attention_mask):
        return {
            "image_embeds": pooled(model.get_image_features(pixel_values=pixel_values)),
            "text_embeds": pooled(model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)),
        }

    teacher = FunctionTeacher(function, processor=processor(), dims=CLIPDims(24), logit_scale=20.0)
    expected, features = by_name.of_batch(batch), teacher.of_batch(batch)
    assert expected.tensors().keys() == features.tensors().keys()
    for name, value in expected.tensors().items():
        torch.testing.assert_close(getattr(features, name), value, msg=name)
        assert not getattr(features, name).requires_grad


def test_function_of_images_alone():
    view = TeacherProcessor(crop())
    dims = CLIPDims(3, token_dim=3, has_text=False)

    def function(pixel_values):
        tokens = pixel_values.flatten(2).transpose(1, 2).half()
        return {"image_embeds": tokens.mean(1), "image_tokens": tokens, "image_grid": (4, 4)}

    teacher = FunctionTeacher(function, processor=view, dims=dims)
    teacher.prepare(FeatureRequest(teacher_layer=-2, token_moments=True, patch_embeds=True))
    batch = {"pixel_values": torch.randn(2, 3, 4, 4), "input_ids": torch.ones(2, 5)}
    features = teacher.of_batch(batch)
    assert {value.dtype for value in features.tensors().values()} == {torch.float32}
    assert features.token_moments.shape == (2, 2, 3) and features.text_embeds is features.logit_scale is None


def test_module_is_frozen():
    module = torch.nn.Linear(4, 2)
    teacher = FunctionTeacher(module, processor=TeacherProcessor(crop()), dims=CLIPDims(2, has_text=False))
    teacher.train()
    assert not module.training and not module.weight.requires_grad
    assert dict(teacher.named_parameters()).keys() == {"function.weight", "function.bias"}


def test_functions_that_do_not_keep_their_word():
    def blind(pixel_values, **texts):
        return {"image_embeds": pixel_values.mean((2, 3))}

    view = TeacherProcessor(crop(), clip_tokenizer(600), 77)
    pixels, ids = torch.randn(2, 3, 4, 4), torch.ones(2, 5, dtype=torch.long)
    teacher = FunctionTeacher(blind, processor=view, dims=CLIPDims(3), logit_scale=1.0)
    with pytest.raises(ValueError, match="`text_embeds` is missing in what the teacher blind returned.*declare"):
        teacher(pixels, ids)
    teacher = FunctionTeacher(blind, processor=view, dims=CLIPDims(8, has_text=False))
    with pytest.raises(ValueError, match=r"`image_embeds` has the shape \(2, 3\) .*a width of 8"):
        teacher(pixels)
    with pytest.raises(ValueError, match="blind was given .* without tokenizer.*has_text=False"):
        FunctionTeacher(blind, processor=TeacherProcessor(crop()), dims=CLIPDims(3))
    with pytest.raises(ValueError, match="read image tokens, and the teacher blind declares none.*token_dim="):
        teacher.prepare(FeatureRequest(teacher_layer=-2))
    with pytest.raises(ValueError, match="blind is a function, .*patches cannot be had.*'patch_text'"):
        FunctionTeacher(blind, processor=view, dims=CLIPDims(3), logit_scale=1.0).prepare(
            FeatureRequest(patch_embeds=True)
        )
    with pytest.raises(ValueError, match="blind compares images with texts and has logit_scale=None.*logit_scale=100"):
        FunctionTeacher(blind, processor=view, dims=CLIPDims(3))
