"""Arguments of LLaVA's first stage, made of those of the run."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.vlm import LlavaTrainingArguments
from hf_clip_kd.vlm.arguments import TrainVLMArguments, check
from hf_clip_kd.vlm.first_stage import first_folder, read_first_stage, second_of

RUN = {
    "vision_tower": "shapes-vit-t",
    "language_model": "lm",
    "chat_template": "short",
    "output_dir": "runs/student",
    "dataset_name": "shapes",
    "evaluation": {"shapes": {"split": "test"}},
    "score_at_steps": [1],
    "lora": {"r": 4},
    "learning_rate": 1e-4,
    "projector_learning_rate": 1e-3,
    "max_steps": 9,
    "use_cpu": True,
}


@pytest.fixture
def parser():
    return RecipeParser((TrainVLMArguments, LlavaTrainingArguments), Path("none.yaml"))


@pytest.fixture
def argv(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    return ["--config", str(tmp_path / "run.yaml"), "--seed", "3"]


def test_what_is_not_named_is_that_of_the_run(parser, argv):
    script, training = parser.parse(argv)
    values = {"dataset_name": "captions.json", "template": "plain", "learning_rate": 2e-3, "image_folder": None}
    first, stage = read_first_stage(parser, argv, values)
    assert (first.dataset_name, first.template, stage.learning_rate) == ("captions.json", "plain", 2e-3)
    assert (first.vision_tower, first.chat_template, stage.seed, stage.max_steps) == ("shapes-vit-t", "short", 3, 9)
    assert (stage.stage, stage.lora, stage.projector_learning_rate) == ("pretrain", None, None)
    assert (first.evaluation, first.score_at_steps, first.beside, first.first_stage) == (None, None, None, None)
    assert (script.evaluation, training.stage) == (RUN["evaluation"], "finetune")  # the run's own stay


def test_the_second_stage_starts_from_the_folder_of_the_first(parser, argv):
    script, training = parser.parse(argv)
    folder = first_folder(Path(training.output_dir), "student")
    assert folder == Path("runs/pretrain/student")
    second = second_of(script, folder)
    check(second, training)
    from_parts = {"vision_tower": None, "language_model": None, "chat_template": None}
    assert second == replace(script, model_name_or_path=str(folder), **from_parts)


def test_the_second_stage_of_a_llava_with_tiles_has_no_image_mode(parser, argv):
    flags = ["--tiles", "[[1, 2]]", "--image_mode", "square", "--image_tokens", "4", "--token_reduction", "shuffle"]
    script, training = parser.parse([*argv, *flags])
    check(script, training)
    second = second_of(script, Path("runs/pretrain/student"))
    check(second, training)
    assert second.image_mode is None is second.token_reduction
    script = replace(script, tiles=None, image_mode="pad")
    assert second_of(script, Path("runs/pretrain/student")).image_mode == "pad"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": "finetune"}, "`first_stage` has `stage: 'finetune'`.*Delete that line"),
        ({"evaluation": {}}, "`first_stage` has `evaluation: {}`"),
        ({"template": "haiku"}, "`first_stage`: .*template.*haiku"),
        ({"max_steps": "many"}, "`first_stage`: .*max_steps.*It takes an integer"),
    ],
    ids=lambda values: next(iter(values)) if isinstance(values, dict) else None,
)
def test_a_wrong_line_is_named(parser, argv, values, message):
    with pytest.raises(ValueError, match=message):
        read_first_stage(parser, argv, values)
