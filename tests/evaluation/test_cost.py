"""measure_cost against counts made by hand."""

import json

import pytest
import torch
from tiny_llava import make_llava

import hf_clip_kd as kd
from hf_clip_kd.evaluation.cost import ParametersRead, measure_cost
from hf_clip_kd.recipe_io.results import save_cost

TOWERS = {"image": ("vision_model", "visual_projection"), "text": ("text_model", "text_projection")}


def transformer_flops(tokens, width, layers):
    """Two for each multiply-add: four projections, an MLP four times as wide, and the two products of attention."""
    return layers * 2 * (12 * tokens * width**2 + 2 * tokens**2 * width)


@pytest.mark.parametrize("name", ["shapes-vit-t", "shapes-conv"])
def test_parameters_are_those_of_the_towers(name):
    model, processor = kd.load_clip(name)
    cost = measure_cost(model, processor, batch_size=2, seconds=0)
    for tower, modules in TOWERS.items():
        expected = sum(p.numel() for module in modules for p in getattr(model, module).parameters())
        assert cost[tower]["parameters"] == expected
    assert cost["parameters"] == sum(p.numel() for p in model.parameters())
    assert model.training, "the mode is given back"


def test_operations_of_a_vit_and_its_texts():
    model, processor = kd.load_clip("shapes-vit-t")
    cost = measure_cost(model, processor, batch_size=2, seconds=0)
    vision, text = model.config.vision_config, model.config.text_config
    width, patches = vision.hidden_size, (vision.image_size // vision.patch_size) ** 2
    embedding = 2 * patches * 3 * vision.patch_size**2 * width
    projection = 2 * width * model.config.projection_dim
    expected = embedding + transformer_flops(patches + 1, width, vision.num_hidden_layers) + projection
    assert cost["image"]["flops"] == expected
    length, width = text.max_position_embeddings, text.hidden_size
    expected = transformer_flops(length, width, text.num_hidden_layers) + 2 * width * model.config.projection_dim
    assert cost["text"]["flops"] == expected
    assert cost["image_size"] == [32, 32] and cost["context_length"] == length


def test_a_teacher_costs_what_its_model_does(tmp_path):
    model, processor = kd.load_clip("shapes-vit-t")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    teacher = kd.CLIPTeacher(str(tmp_path))
    pairs = ((model, processor), (teacher, teacher.processor))
    costs = [measure_cost(*pair, batch_size=2, seconds=0) for pair in pairs]
    for tower in ("image", "text"):
        assert all(costs[0][tower][key] == costs[1][tower][key] for key in ("parameters", "flops"))


def test_a_llava_has_an_image_tower_and_no_text_tower():
    model, processor = make_llava()
    cost = measure_cost(model, processor, batch_size=2, seconds=0)
    seen = [model.model.vision_tower, model.model.multi_modal_projector]
    reads = sum(p.numel() for module in seen for p in module.parameters())
    # The tower's last norm belongs to the pooled output, which a LLaVA leaves alone.
    assert cost["image"]["parameters"] == pytest.approx(reads, rel=0.01)
    assert "text" not in cost and cost["parameters"] > reads


def test_throughput_is_timed_and_says_where(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("hf_clip_kd.evaluation.cost.time.perf_counter", lambda: next(ticks))
    model, processor = kd.load_clip("shapes-vit-t")
    cost = measure_cost(model, processor, batch_size=8, seconds=4)
    assert cost["image"]["per_second"] == cost["text"]["per_second"] == 8  # a batch of 8 a second
    assert next(ticks) == 16, "four seconds of each tower, two readings of the clock each second"
    assert cost["measured_on"]["batch_size"] == 8 and cost["measured_on"]["dtype"] == "float32"
    assert cost["measured_on"]["threads"] == torch.get_num_threads() and cost["measured_on"]["device"]


def test_a_shared_or_sliced_parameter_counts_once():
    layer = torch.nn.Linear(4, 4)
    with ParametersRead(layer) as read:
        layer.weight[:2] @ layer.weight.T
    assert read.count() == 16


def test_cost_is_a_file_by_role(tmp_path):
    save_cost(tmp_path, {"student": {"parameters": 3}})
    assert json.loads((tmp_path / "cost.json").read_text()) == {"student": {"parameters": 3}}
