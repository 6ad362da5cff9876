"""recipes/evaluate_vlm.py: folders, its configs, and bad input before any model is loaded."""

import importlib
import inspect
import json
import shutil
from dataclasses import fields

import pytest
from tiny_llava import make_llava
from transformers import AutoModelForImageTextToText

from hf_clip_kd.evaluation import load_results
from hf_clip_kd.evaluation.vqa import BENCHMARKS, READERS
from hf_clip_kd.recipe_io.parser import RecipeParser
from recipes import evaluate_vlm as recipe

SHAPES = {"shapes": {"split": "test", "max_samples": 12, "max_new_tokens": 3}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A LLaVA of stock classes and one on a tower of ours."""
    folder = tmp_path_factory.mktemp("vlms")
    for tower in ("clip", "timm"):
        for part in make_llava(tower):
            part.save_pretrained(folder / tower)
    return [str(folder / "clip"), str(folder / "timm")]


@pytest.fixture
def main(tmp_path):
    (tmp_path / "empty.yaml").write_text("")

    def run(models, evaluation):
        flags = ["--model_name_or_path", models, "--evaluation", json.dumps(evaluation)]
        return recipe.main(["--config", str(tmp_path / "empty.yaml"), "--output_dir", str(tmp_path / "out"), *flags])

    return run


def test_recipe_scores_folders(main, folders, tmp_path, capsys):
    rows = main(json.dumps(folders), SHAPES)
    assert list(rows) == folders
    records = {record["model"]: record for record in load_results(tmp_path / "out")}
    for folder in folders:
        assert records[folder]["metrics"]["accuracy"] == rows[folder]["shapes"]
        assert records[folder]["metrics"]["answer_bits"] == rows[folder]["shapes/answer_bits"] > 0
        assert records[folder]["config"]["model_name_or_path"] == folder
        assert records[folder]["config"]["evaluation"] == SHAPES["shapes"]
    out = capsys.readouterr().out
    assert "shapes/answer_bits" in out and "Fewer `answer_bits` are better" in out
    assert all(folder in out for folder in folders)
    assert len(list((tmp_path / "out/samples").iterdir())) == 2


def test_recipe_goes_on_but_not_with_other_weights(main, folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders[0], tmp_path / "vlm")
    calls = []
    generate = importlib.import_module("hf_clip_kd.evaluation.vqa.evaluator").generate_answers

    def spy(*args, **options):
        calls.append(args)
        return generate(*args, **options)

    monkeypatch.setattr("hf_clip_kd.evaluation.vqa.evaluator.generate_answers", spy)
    for _ in range(2):
        main(str(folder), SHAPES)
    assert len(calls) == 1
    make_llava("clip", seed=5)[0].save_pretrained(folder)
    main(str(folder), SHAPES)
    assert len(calls) == 2


def test_data_is_checked_before_a_model_is_loaded(main, folders, monkeypatch):
    def no(*args, **kwargs):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", no)
    with pytest.raises(ValueError, match="no.json: there is no such file"):
        main(folders[0], {**SHAPES, "gqa": {"questions": "no.json"}})


def test_models_that_are_none(main, tmp_path):
    with pytest.raises(ValueError, match="`model_name_or_path='.*no_such_folder'` cannot be loaded.*train_vlm.py"):
        main(str(tmp_path / "no_such_folder"), SHAPES)
    from hf_clip_kd import load_clip

    for part in load_clip("test-vit"):
        part.save_pretrained(tmp_path / "student")
    with pytest.raises(ValueError, match="student'` cannot be loaded.*image-text-to-text"):
        main(str(tmp_path / "student"), SHAPES)


def test_table():
    rows = {"a": {"gqa": 0.5, "mme": 1153.0, "a_long_name": 1.0}, "longer": {"gqa": 0, "mme": 0, "a_long_name": 0}}
    assert recipe.table(rows, {"mme"}).splitlines() == [
        "model        gqa       mme  a_long_name",
        "a           50.0    1153.0        100.0",
        "longer       0.0       0.0          0.0",
    ]


def test_bits_have_no_per_cent():
    rows = {"a": {"mme": 1153.0, "gqa": 0.5, "gqa/answer_bits": 2.3449}}
    assert recipe.table(rows, {"mme"}).splitlines()[1] == "a        1153.0      50.0             2.34"


def test_demo_config():
    (args,) = RecipeParser(recipe.EvaluateVLMArguments, recipe.CONFIGS / "demo.yaml").parse([])
    assert args.model_name_or_path == "outputs/vlm_demo/distilled"
    assert args.evaluation == {"shapes": {"split": "test", "max_samples": 3000}}


def test_help_names_every_benchmark():
    (text,) = [part.metadata["help"] for part in fields(recipe.EvaluateVLMArguments) if part.name == "evaluation"]
    assert ", ".join(BENCHMARKS) in text


CONFIGS = {
    # Every benchmark of docs/Evaluation.md of LLaVA-1.5 that is read here, and MMMU.
    "llava.yaml": "vqav2 gqa textvqa vizwiz pope mme scienceqa seedbench mmmu mmvet",
    "vision_centric.yaml": "mmvp cvbench blink naturalbench realworldqa mmstar",
    "documents.yaml": "docvqa infovqa chartqa ocrbench ai2d",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_names_its_benchmarks_and_only_arguments_that_exist(name):
    (args,) = RecipeParser(recipe.EvaluateVLMArguments, recipe.CONFIGS / name).parse(["--model_name_or_path", "x"])
    named = set()
    for entry, block in args.evaluation.items():
        benchmark = block.pop("benchmark", entry)
        named.add(benchmark)
        inspect.signature(READERS[benchmark]).bind(**block)
    assert named == set(CONFIGS[name].split())
