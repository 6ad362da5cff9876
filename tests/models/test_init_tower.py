"""`init_image_tower`: a fresh model computes what the tower computes, and towers of another kind are refused."""

import json

import pytest
import timm
import torch
from preset_files import write_json
from safetensors.torch import save_file
from teacher_models import tiny_clip
from vlm_parts import picture

from hf_clip_kd.models import load_clip
from hf_clip_kd.models.init_tower import init_image_tower
from hf_clip_kd.models.load_tower import load_tower


def timm_file(folder, architecture="test_resnet", **model_args):
    """Return the model of timm, and the name of its weights as a tower."""
    model = timm.create_model(architecture, **model_args).eval()
    with torch.no_grad():  # Statistics of norms start as constants. Larger numbers would saturate a ReLU6.
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.02 * torch.randn_like(tensor))
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, f"timm:{architecture}/{folder}/weights.safetensors"


def test_a_convnet_of_timm_at_another_size(tmp_path):
    trunk, name = timm_file(tmp_path)
    student, processor = load_clip(write_json(tmp_path / "x.json", "test_resnet", 64))
    fresh = {key: value.clone() for key, value in student.state_dict().items()}
    init_image_tower(student, processor, name)
    assert student.training
    with torch.no_grad():
        pixels = torch.randn(2, 3, 64, 64)
        found = student.eval().vision_model(pixels).pooler_output
        assert torch.equal(found, trunk.forward_head(trunk.forward_features(pixels), pre_logits=True))
    kept = [key for key in fresh if not key.startswith("vision_model.")]
    assert all(torch.equal(fresh[key], student.state_dict()[key]) for key in kept)

    config = timm.data.resolve_model_data_config(trunk)
    image_processor = processor.image_processor
    assert (image_processor.image_mean, image_processor.image_std) == (list(config["mean"]), list(config["std"]))
    assert image_processor.crop_size["height"] == 64
    # A saved student sees the same pixels, and computes the same.
    student.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    again, processor_again = load_clip(tmp_path / "saved")
    inputs = [load(images=picture(), return_tensors="pt").pixel_values for load in (processor, processor_again)]
    assert torch.equal(*inputs)
    with torch.no_grad():
        assert torch.equal(again.vision_model(pixels).pooler_output, found)


def clip_folder(folder):
    model, processor = tiny_clip()
    with torch.no_grad():  # Initial weights are so small that every activation is nearly linear.
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def clip_json(path, **vision):
    """Write a preset with the sizes of `tiny_clip`, but for the values of `vision`."""
    config = tiny_clip()[0].config
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    towers = {
        name: {size: getattr(tower, size) for size in sizes}
        for name, tower in (("vision_config", config.vision_config), ("text_config", config.text_config))
    }
    towers["vision_config"] |= {"image_size": 32, "patch_size": 8} | vision
    towers["text_config"] |= {"vocab_size": 600}
    path.write_text(json.dumps({"model_type": "clip", "projection_dim": 12} | towers))
    return str(path)


def test_a_vit_of_transformers(tmp_path):
    teacher = clip_folder(tmp_path / "teacher")
    student, processor = load_clip(clip_json(tmp_path / "x.json"))
    init_image_tower(student, processor, str(tmp_path / "teacher"))
    own, theirs = load_tower(student)[0].state_dict(), teacher.vision_model.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.parametrize(
    ("vision", "reason"),
    [
        ({"image_size": 64}, "1 tensors are missing, left over or of another shape .such as .*position_embedding"),
        ({"num_hidden_layers": 1}, "tensors are missing.*Take the tower that the student's JSON describes"),
        ({"hidden_act": "gelu"}, "computes something else with them.*Correct `vision_config`.*`hidden_act`"),
    ],
    ids=["size", "depth", "activation"],
)
def test_a_tower_of_another_kind_is_refused(vision, reason, tmp_path):
    clip_folder(tmp_path / "teacher")
    student, processor = load_clip(clip_json(tmp_path / "x.json", **vision))
    with pytest.raises(ValueError, match=f"(?s)init_image_tower=.*{reason}"):
        init_image_tower(student, processor, str(tmp_path / "teacher"))


@pytest.mark.slow
def test_an_architecture_of_timm_with_other_padding_is_refused(tmp_path):
    """Names and shapes are those of the wheel's model, which pads as TensorFlow does. This one does not."""
    _, name = timm_file(tmp_path, "tf_efficientnet_lite0")
    student, processor = load_clip(write_json(tmp_path / "x.json", "efficientnet_lite0", 64))
    with pytest.raises(ValueError, match="computes something else with them.*`architecture`"):
        init_image_tower(student, processor, name)


def test_there_is_no_such_file(tmp_path):
    student, processor = load_clip("test-resnet")
    with pytest.raises(ValueError, match="no .safetensors file"):
        init_image_tower(student, processor, f"timm:test_resnet/{tmp_path}/gone.safetensors")
