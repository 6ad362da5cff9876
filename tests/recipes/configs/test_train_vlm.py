"""The YAMLs of recipes/train_vlm.py: each is read, and trains as published where it says so."""

import json
from pathlib import Path

import pytest
from PIL import Image
from recipe_runs import ROOT

from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.vlm import LlavaTrainingArguments, list_chat_templates
from hf_clip_kd.vlm.first_stage import read_first_stage
from recipes import train_vlm

CONFIGS = sorted((ROOT / "recipes/configs/train_vlm").glob("*.yaml"))


def parse(path):
    parser = RecipeParser((train_vlm.TrainVLMArguments, LlavaTrainingArguments), path)
    # A recipe for GPUs asks for bf16, which transformers refuses where there is none.
    script, training = parser.parse(["--config", str(path), "--use_cpu", "true"])
    train_vlm.check(script, training)
    return script, training


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipe_is_sound(path):
    script, _ = parse(path)
    assert script.chat_template is None or script.chat_template in list_chat_templates()
    if script.model_name_or_path is not None:  # it goes on where another one has ended
        first, training = parse(path.with_name(path.stem.split("_")[0] + "_pretrain.yaml"))
        assert training.output_dir == script.model_name_or_path and training.stage == "pretrain"
        assert first.template == "plain" and first.language_model is not None


@pytest.mark.parametrize("path", [path for path in CONFIGS if "pictures" in path.stem], ids=lambda path: path.stem)
def test_both_stages_and_the_questions_of_the_pictures_are_read(path, tmp_path, monkeypatch):
    argv = ["--config", str(path), "--use_cpu", "true"]
    parser = RecipeParser((train_vlm.TrainVLMArguments, LlavaTrainingArguments), path)
    script, training = parser.parse(argv)
    first, own = read_first_stage(parser, argv, script.first_stage)
    train_vlm.check(first, own)
    assert (own.stage, own.lora, first.template, first.evaluation) == ("pretrain", None, "plain", None)
    assert (own.learning_rate, own.max_steps, own.bf16) == (2e-3, 100, training.bf16)
    assert first.language_model == script.language_model and first.dataset_name != script.dataset_name
    monkeypatch.chdir(tmp_path)
    asked = {"image": "a.png", "question": "What?", "answer": "a cat", "type": "name"}
    Path("outputs/pictures").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("outputs/pictures/a.png")
    for block in script.evaluation.values():
        if block["benchmark"] == "questions":
            Path(block["questions"]).parent.mkdir(exist_ok=True)
            Path(block["questions"]).write_text(json.dumps(asked) + "\n")
        else:
            row = {"question_id": 1, "image": "a.png", "text": "Is there a cat?", "label": "yes"}
            Path(block["folder"]).mkdir()
            Path(block["folder"], "coco_pope_random.json").write_text(json.dumps(row) + "\n")
    evaluator = build_vqa_evaluator(script.evaluation, load_shapes)
    assert [entry.name for entry in evaluator.benchmarks] == list(script.evaluation)
    assert all(len(entry.samples) == 1 for entry in evaluator.benchmarks)


# vlm.md 1.1: learning rate, global batch on 8 GPUs, image mode
PUBLISHED = {
    "llava15_pretrain": (1e-3, 256, "square"),
    "llava15_finetune": (2e-5, 128, "pad"),
    "llava15_finetune_lora": (2e-4, 128, "pad"),
    "tinyllava_pretrain": (1e-3, 256, "square"),
    "tinyllava_finetune": (2e-5, 128, "square"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe_trains_as_published(name):
    script, training = parse(ROOT / f"recipes/configs/train_vlm/{name}.yaml")
    batch = 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert (training.learning_rate, batch, script.image_mode) == PUBLISHED[name]
    assert (training.lr_scheduler_type, training.warmup_steps, training.weight_decay) == ("cosine", 0.03, 0.0)
    assert (training.num_train_epochs, training.bf16, script.vision_feature_layer) == (1, True, -2)
    assert training.group_by_modality_length and not training.tune_vision_tower
    if "lora" in name:
        assert training.lora == {"r": 128, "lora_alpha": 256, "lora_dropout": 0.05}
        assert training.projector_learning_rate == 2e-5


def test_all_published_recipes_are_tested():
    own = {"demo", "lift", "pictures_lora"}
    assert {path.stem for path in CONFIGS} == {*PUBLISHED, *own}
