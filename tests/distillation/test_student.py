"""Students: scales of any shape are trained, saved and resumed, frozen ones stay, and other models are refused."""

import pytest
import torch
from miniature import STEPS, make_clip, make_trainer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AlignConfig,
    AlignModel,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipConfig,
    SiglipModel,
)

from hf_clip_kd.distillation.student import check_embeds, check_student, take_over
from hf_clip_kd.models import load_clip

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CHECKPOINT = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 2}


def make_siglip():
    torch.manual_seed(0)
    vision = {**TINY, "image_size": 16, "patch_size": 8}
    text = {**TINY, "vocab_size": 40, "max_position_embeddings": 8}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def siglip_run(folder, **changes):
    return make_trainer(folder, make_siglip(), teacher=False, losses={"siglip": 1.0}, **CHECKPOINT | changes)


def without(name, value=None):
    model = make_clip()
    delattr(model, name)
    if value is not None:
        setattr(model, name, value)
    return model


def adapted(student):
    student.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    return student


REFUSED = {
    "a name": (lambda: "ViT-T-16", "str has no `get_image_features`"),
    "nothing": (lambda: None, "NoneType has no"),
    "a tower": (lambda: CLIPVisionModel(CLIPVisionConfig(**TINY, image_size=16, patch_size=8)), "CLIPVisionModel has"),
    "no scale": (lambda: without("logit_scale"), "has no `logit_scale`.*Take a CLIP or SigLIP"),
    "a number": (lambda: without("logit_scale", 2.6), "`logit_scale` of CLIPModel is 2.6"),
    "two scales": (lambda: without("logit_scale", nn.Parameter(torch.ones(2))), r"tensor of shape \(2,\)"),
    "an adapter": (
        lambda: get_peft_model(make_clip(), LoraConfig(r=2, target_modules=["q_proj"])),
        "`PeftModel`.*student.add_adapter",
    ),
    "an adapter on nothing": (lambda: adapted(make_clip()), "adapters on fresh weights"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_student_is_refused_with_the_reason(what):
    make, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        check_student(make())


def test_a_trainer_refuses_it_at_construction(tmp_path):
    with pytest.raises(ValueError, match="has no `logit_scale`"):
        make_trainer(tmp_path, without("logit_scale"), teacher=False, losses={"clip": 1.0})


def test_align_has_another_scale():
    vision = {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 48}
    text = {**TINY, "vocab_size": 40, "max_position_embeddings": 8}
    align = AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=8))
    with pytest.raises(ValueError, match="no `logit_scale` but a `temperature`"):
        check_student(align)


def test_tokens_are_no_embeddings():
    check_embeds(torch.ones(2, 8), torch.ones(2, 8))
    for image, text in (((2, 5, 8), (2, 8)), ((2, 8), (2, 7))):
        with pytest.raises(ValueError, match="gives an embedding of each"):
            check_embeds(torch.ones(image), torch.ones(text))


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("learns", [True, False])
def test_a_scale_keeps_its_shape_and_whether_it_learns(shape, learns):
    module = nn.Module()
    module.scale = nn.Parameter(torch.full(shape, 2.0), requires_grad=learns)
    for _ in range(2):  # a second trainer of the same student finds a buffer
        taken = take_over(module, "scale")
        assert taken.shape == (1,) and taken.requires_grad == learns and taken.item() == 2
        assert module.scale.shape == shape and "scale" in module.state_dict()
        assert not list(module.parameters())


def test_a_trained_siglip_loads_and_resumes(tmp_path):
    whole = siglip_run(tmp_path / "whole")
    whole.train(), whole.save_model()
    before = make_siglip().state_dict()
    for folder in (tmp_path / "whole", tmp_path / "whole" / "checkpoint-2"):
        loaded, report = SiglipModel.from_pretrained(folder, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for name in ("logit_scale", "logit_bias"):
            assert getattr(loaded, name).shape == (1,) and not torch.equal(loaded.state_dict()[name], before[name])
    assert not torch.equal(loaded.logit_scale, whole.student.logit_scale)
    # Older checkpoints hold both as 0-dim tensors.
    file = tmp_path / "whole" / "checkpoint-2" / "model.safetensors"
    state = load_file(file)
    for old in (False, True):
        if old:
            save_file({n: x.reshape(()) if "logit" in n else x for n, x in state.items()}, file, {"format": "pt"})
        resumed = siglip_run(tmp_path / "resumed", save_strategy="no")
        # The file was changed by hand.
        resumed.checkpoints.choose = lambda folder: folder
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (old, name)


def test_a_frozen_scale_stays_what_it_is(tmp_path):
    student = make_clip()
    nn.init.constant_(student.logit_scale, 5.0)  # scales that learn may have log 100
    student.logit_scale.requires_grad_(False)
    trainer = make_trainer(tmp_path, student, teacher=False, losses={"clip": 1.0})
    assert "logit_scale" not in {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train(), trainer.save_model()
    assert load_file(tmp_path / "model.safetensors")["logit_scale"].item() == 5.0
    again = make_trainer(tmp_path / "again", trainer.student, teacher=False, losses={"clip": 1.0})
    assert not again.model.logit_scale.requires_grad


def test_adapters_train_and_resume(tmp_path):
    make_clip().save_pretrained(tmp_path / "base")

    def run(folder):
        student = adapted(CLIPModel.from_pretrained(tmp_path / "base"))
        return make_trainer(folder, student, teacher=False, losses={"clip": 1.0}, **CHECKPOINT)

    whole, resumed = run(tmp_path / "whole"), run(tmp_path / "resumed")
    before = make_clip().state_dict()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name]), name
        if "lora_" not in name:
            assert torch.equal(value, before[name.replace(".base_layer", "")]), name
    assert any(value.any() for name, value in whole.student.state_dict().items() if "lora_B" in name)


def test_presets_are_students():
    check_student(load_clip("test-resnet")[0])
