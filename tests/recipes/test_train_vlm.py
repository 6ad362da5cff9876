"""recipes/prime_lm.py and recipes/train_vlm.py: the whole way in small, and bad input."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from teacher_models import tiny_siglip2
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from hf_clip_kd.data.shapes import QUESTION_TYPES, load_shapes
from hf_clip_kd.evaluation import VQAEvaluator, build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import evaluator
from hf_clip_kd.models import load_clip
from hf_clip_kd.models.load_tower import load_tower
from hf_clip_kd.vlm import build_llava, save_llava, tower_checksum
from recipes import distill, prime_lm, train_vlm

ROOT = Path(__file__).parents[2]
TINY = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "max_train_samples": 64,
    "max_test_samples": 24,
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
}


def write_yaml(path, **values):
    path.write_text(yaml.safe_dump(values))
    return str(path)


# ---- The whole way ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The demo in small: a language model, and three towers with the same training."""
    folder = tmp_path_factory.mktemp("vlm")
    prime = write_yaml(folder / "prime.yaml", output_dir=str(folder / "lm"), **TINY)
    prime_lm.main(["--config", prime])
    settings = {
        "vision_tower": "shapes-vit-t",
        "beside": {"blind": None, "conv": "shapes-conv"},
        "language_model": str(folder / "lm"),
        "dataset_name": "shapes",
        "feature_cache": str(folder / "features"),
        "normalize_features": True,
        "evaluation": {"shapes": {"split": "test", "max_samples": 24}},
        "score_at_steps": [1, 2],
        "output_dir": str(folder / "runs" / "student"),
    }
    common = {
        key: value for key, value in TINY.items() if "hidden" not in key and "heads" not in key and "test" not in key
    }
    config = write_yaml(folder / "vlm.yaml", **settings, **common)
    rows = train_vlm.main(["--config", config])
    assert json.loads((folder / "runs" / "summary.json").read_text())["rows"] == rows
    return folder


def test_summary_has_a_row_for_each_tower_and_the_oracle(folder):
    rows = json.loads((folder / "runs" / "summary.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["blind", "student", "conv", "oracle"]
    for row in rows:
        bits = {"answer_bits"} if row["name"] != "oracle" else set()
        assert set(row) == {"name", "accuracy", "by_type", *bits} and set(row["by_type"]) == set(QUESTION_TYPES)
        # Each type is asked equally often.
        assert row["accuracy"] == pytest.approx(sum(row["by_type"].values()) / len(QUESTION_TYPES))


def test_each_run_leaves_a_llava_its_answers_and_its_recipe(folder):
    towers = {"conv": "shapes-conv", "student": "shapes-vit-t"}
    for name, tower in towers.items():
        run = folder / "runs" / name
        model = AutoModelForImageTextToText.from_pretrained(run)
        assert AutoProcessor.from_pretrained(run).image_token == "<image>"
        assert model.config.text_config.hidden_size == 32
        (samples,) = (run / "results" / "samples").glob("*.jsonl")
        assert len(samples.read_text().splitlines()) == 24
        assert yaml.safe_load((run / "recipe.yaml").read_text())["vision_tower"] == tower
    assert {path.name for path in (folder / "features").iterdir()} == {
        tower_checksum(AutoModelForImageTextToText.from_pretrained(folder / "runs" / name).model.vision_tower)[:16]
        for name in towers
    }


@pytest.mark.parametrize("name", ["student", "blind"])
def test_the_curve_ends_with_the_result(name, folder):
    run = folder / "runs" / name
    curve = json.loads((run / "learning_curve.json").read_text())
    (result,) = (json.loads(path.read_text()) for path in (run / "results").glob("*.json"))
    assert curve["steps"] == [1, 2] and len(curve["seconds"]) == 2
    scores = curve["scores"]["shapes"]
    assert {metric: values[-1] for metric, values in scores.items()} == pytest.approx(result["metrics"])
    # The area of two points is their mean.
    assert curve["area"]["shapes"] == pytest.approx({metric: sum(values) / 2 for metric, values in scores.items()})
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged if "shapes_accuracy" in entry] == [1]


def test_stored_features_answer_as_the_tower_does(folder):
    """The result of a run from stored features is that of its saved folder, from pixels."""
    run = folder / "runs" / "student"
    assert list((folder / "features").glob("*/*.safetensors"))
    model = AutoModelForImageTextToText.from_pretrained(run)
    (samples,) = (run / "results" / "samples").glob("*.jsonl")
    evaluator = build_vqa_evaluator({"shapes": {"split": "test", "max_samples": 24}}, load_shapes)
    evaluator(model, AutoProcessor.from_pretrained(run), learning=True)
    stored = [json.loads(line)["score"] for line in samples.read_text().splitlines()]
    assert evaluator.results["shapes"]["scores"] == stored


def test_the_tower_in_the_folder_is_the_one_given(folder, tmp_path):
    tower, processor = load_tower("shapes-vit-t")
    tower.save_pretrained(tmp_path / "tower"), processor.save_pretrained(tmp_path / "tower")
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    settings |= {"vision_tower": str(tmp_path / "tower"), "output_dir": str(tmp_path / "run"), "feature_cache": None}
    del settings["beside"], settings["evaluation"], settings["score_at_steps"]
    train_vlm.main(["--config", write_yaml(tmp_path / "a.yaml", **settings)])
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "run")
    assert tower_checksum(saved.model.vision_tower) == tower_checksum(tower)
    # The second stage goes on from that folder, with adapters, and with the tower learning.
    for key in ("vision_tower", "language_model"):
        del settings[key]
    settings |= {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "second")}
    settings |= {"tune_vision_tower": True, "lora": {"r": 4}, "image_mode": "pad", "learning_rate": 0.01}
    train_vlm.main(["--config", write_yaml(tmp_path / "b.yaml", **settings)])
    second = AutoModelForImageTextToText.from_pretrained(tmp_path / "second")
    assert tower_checksum(second.model.vision_tower) != tower_checksum(tower)
    assert not [name for name, _ in second.named_parameters() if "lora" in name]
    assert (tmp_path / "second" / "adapter" / "adapter_model.safetensors").is_file()
    assert AutoProcessor.from_pretrained(tmp_path / "second").image_processor.do_pad


@pytest.mark.slow
def test_a_run_learns_from_another_runs_llava(folder, tmp_path):
    """Both towers' features come from the cache that the earlier runs have filled."""
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    del settings["beside"], settings["evaluation"], settings["score_at_steps"]
    settings |= {"teacher_model_name_or_path": str(folder / "runs" / "conv"), "output_dir": str(tmp_path / "run")}
    settings |= {"relation_weight": 1.0, "reuse_projector": True, "logging_steps": 1}
    before = {path: path.stat().st_mtime_ns for path in (folder / "features").glob("*/*.safetensors")}
    train_vlm.main(["--config", write_yaml(tmp_path / "a.yaml", **settings)])
    assert {path: path.stat().st_mtime_ns for path in (folder / "features").glob("*/*.safetensors")} == before
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(entry["loss/kl"] > 0 for entry in logged if "loss" in entry) and "loss/relation" in logged[0]
    run, teacher = (
        AutoModelForImageTextToText.from_pretrained(path) for path in (tmp_path / "run", folder / "runs" / "conv")
    )
    ours, theirs = (model.model.multi_modal_projector for model in (run, teacher))
    assert torch.equal(ours.linear_2.weight, theirs.linear_2.weight)
    assert ours.linear_1.weight.shape != theirs.linear_1.weight.shape


@pytest.mark.slow
def test_a_lifted_tower_teaches_a_student(folder, tmp_path):
    """lift.yaml and demo_lifted.yaml in small: a tower is tuned in its LLaVA, and teaches its tokens."""
    dual, processor = load_clip("shapes-conv")
    dual.save_pretrained(tmp_path / "dual"), processor.save_pretrained(tmp_path / "dual")
    settings = yaml.safe_load((ROOT / "recipes/configs/train_vlm/lift.yaml").read_text())
    lifted = {"name": settings["vision_tower"], "tokens_from": "outputs/lift/teacher"}
    settings |= {"vision_tower": str(tmp_path / "dual"), "language_model": str(folder / "lm"), "max_steps": 2}
    settings |= {"output_dir": str(tmp_path / "lifted"), "max_train_samples": 64, "per_device_train_batch_size": 8}
    del settings["evaluation"], settings["language_model_recipe"]
    train_vlm.main(["--config", write_yaml(tmp_path / "lift.yaml", **settings)])

    student = yaml.safe_load((ROOT / "recipes/configs/distill/demo_lifted.yaml").read_text())
    assert student["teacher_model_name_or_path"] == lifted
    teacher = {"name": str(tmp_path / "dual"), "tokens_from": str(tmp_path / "lifted")}
    student |= {"teacher_model_name_or_path": teacher, "max_train_samples": 64, "per_device_train_batch_size": 16}
    student |= {"max_steps": 2, "logging_steps": 1, "output_dir": str(tmp_path / "student")}
    del student["evaluation"]
    distill.main(["--config", write_yaml(tmp_path / "student.yaml", **student)])
    # The folder alone is a teacher of tokens.
    alone = {"teacher_model_name_or_path": str(tmp_path / "lifted"), "losses": {"clip": 1.0, "patch": 5.0}}
    alone |= {"output_dir": str(tmp_path / "alone")}
    distill.main(["--config", write_yaml(tmp_path / "alone.yaml", **student | alone)])
    for name, losses in (("student", student["losses"]), ("alone", alone["losses"])):
        logged = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert {key for key in logged[0] if key.startswith("loss/")} == {f"loss/{key}" for key in losses}


# ---- Two stages in one run ----


def weights(run):
    return AutoModelForImageTextToText.from_pretrained(run).state_dict()


def assert_same(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_scores_have_the_precision_of_the_training(folder, tmp_path, monkeypatch):
    seen, measure = [], VQAEvaluator.__call__

    def measured(self, *args, **options):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return measure(self, *args, **options)

    monkeypatch.setattr(VQAEvaluator, "__call__", measured)
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    settings |= {"beside": None, "bf16": True, "output_dir": str(tmp_path / "student")}
    train_vlm.main(["--config", write_yaml(tmp_path / "vlm.yaml", **settings)])
    # Steps 1 and 2 are scored.
    assert seen == [(True, torch.bfloat16)] * 2


def test_a_resumed_run_asks_no_tower_twice(folder, tmp_path, monkeypatch):
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    settings |= {"beside": {"blind": None}, "save_strategy": "steps", "save_steps": 2}
    settings |= {"output_dir": str(tmp_path / "student"), "feature_cache": None, "score_at_steps": None}
    config, asked, generate = write_yaml(tmp_path / "vlm.yaml", **settings), [], evaluator.generate_answers

    def generated(*args, **options):
        asked.append(options["description"])
        return generate(*args, **options)

    monkeypatch.setattr(evaluator, "generate_answers", generated)
    rows = train_vlm.main(["--config", config])
    assert asked == ["shapes"] * 2
    assert train_vlm.main(["--config", config, "--resume_from_checkpoint", "auto"]) == rows
    assert asked == ["shapes"] * 2


@pytest.mark.slow
def test_two_stages_in_one_run_are_two_runs(folder, tmp_path):
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    del settings["score_at_steps"], settings["normalize_features"]
    stage = {"template": "plain", "learning_rate": 0.01, "max_steps": 3, "max_train_samples": 32}
    settings |= {"beside": {"blind": None, "conv": "shapes-conv"}, "lora": {"r": 4}}
    settings |= {"feature_cache": str(tmp_path / "features")}
    at_once = settings | {"first_stage": stage, "output_dir": str(tmp_path / "once" / "student")}
    rows = train_vlm.main(["--config", write_yaml(tmp_path / "once.yaml", **at_once)])
    assert [row["name"] for row in rows] == ["blind", "student", "conv", "oracle"]

    first = settings | stage | {"stage": "pretrain", "output_dir": str(tmp_path / "first" / "student")}
    first["beside"] = {"conv": "shapes-conv"}
    del first["lora"], first["evaluation"]
    train_vlm.main(["--config", write_yaml(tmp_path / "first.yaml", **first)])
    for name, tower in (("student", "shapes-vit-t"), ("conv", "shapes-conv")):
        before = tmp_path / "once" / "pretrain" / name
        assert_same(before, tmp_path / "first" / name)
        parsed = yaml.safe_load((before / "recipe.yaml").read_text())
        assert (parsed["vision_tower"], parsed["stage"], parsed["lora"]) == (tower, "pretrain", None)
        second = settings | {"model_name_or_path": str(before), "output_dir": str(tmp_path / "second" / name)}
        for key in ("vision_tower", "beside", "language_model", "evaluation"):
            del second[key]
        train_vlm.main(["--config", write_yaml(tmp_path / f"{name}.yaml", **second)])
        assert_same(tmp_path / "once" / name, tmp_path / "second" / name)
        # The written recipe of the second stage is such a run.
        parsed = yaml.safe_load((tmp_path / "once" / name / "recipe.yaml").read_text())
        assert (parsed["model_name_or_path"], parsed["vision_tower"]) == (str(before), None)
    assert not (tmp_path / "once" / "pretrain" / "blind").exists()


@pytest.mark.slow
def test_a_blind_model_whose_projector_alone_would_learn_stays_as_it_is(folder, tmp_path):
    settings = yaml.safe_load((folder / "vlm.yaml").read_text())
    settings |= {"beside": None, "vision_tower": None, "stage": "pretrain", "output_dir": str(tmp_path / "blind")}
    del settings["score_at_steps"]
    (row, _) = train_vlm.main(["--config", write_yaml(tmp_path / "blind.yaml", **settings)])
    assert row["name"] == "blind" and 0 <= row["accuracy"] <= 1
    given = AutoModelForCausalLM.from_pretrained(folder / "lm").state_dict()
    saved = weights(tmp_path / "blind")
    rows = given["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(saved["model.language_model.layers.0.mlp.up_proj.weight"], rows)


def test_a_language_model_that_was_stopped_goes_on(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        train_vlm.subprocess, "run", lambda command: started.append(command) or SimpleNamespace(returncode=0)
    )
    train_vlm.make_language_model(
        SimpleNamespace(language_model=str(tmp_path / "none"), language_model_recipe="demo.yaml")
    )
    ((*_, name, value),) = started
    assert (name, value) == ("--resume_from_checkpoint", "auto")


# ---- Bad input ----

START = {"vision_tower": "shapes-vit-t", "language_model": "nowhere", "output_dir": "out", "dataset_name": "shapes"}
BAD = [
    ({"language_model": None}, "model_name_or_path=None.*Give one of the two"),
    ({"model_name_or_path": "x", "language_model": None}, "`vision_tower` or `beside` with `model_name_or_path`"),
    (
        {"model_name_or_path": "x", "language_model": None, "vision_tower": None, "first_stage": {}},
        "`first_stage` with `model_name_or_path`",
    ),
    ({"first_stage": {"output_dir": "x"}}, "`first_stage` has `output_dir: 'x'`, which is not its own"),
    ({"first_stage": {"max_stepz": 3}}, "`first_stage`: .*max_stepz.*Did you mean `--max_steps`"),
    (
        {"quantization": "4bit", "lora": {"r": 4}, "language_model": "a//b.gguf"},
        "with the GGUF file 'a//b.gguf'.*import_language_model.py",
    ),
    ({}, "language_model='nowhere' cannot be loaded"),
    ({"vision_tower": "shapes-vit-q"}, "shapes-vit-q"),
    ({"beside": {"b": None, "c": "outputs/nowhere"}}, "outputs/nowhere"),
    ({"quantization": "4bit"}, "`quantization=4bit` without `lora`"),
    ({"feature_cache": "f", "tune_vision_tower": True}, "`feature_cache='f'` with `tune_vision_tower`"),
    ({"beside": {"a": None}, "resume_from_checkpoint": "c"}, "belongs to one of the towers"),
    ({"evaluation": {"gqq": {}}}, "'gqq' is no benchmark"),
    ({"evaluation": {"gqa": {"questions": "no.json", "image_folder": "."}}}, "no.json"),
    ({"score_at_steps": [5]}, r"`score_at_steps=\[5\]` without `evaluation`.*Add for example"),
    ({"score_at_steps": [5], "max_steps": 2}, r"has 5, and the run has 2 steps.*or train longer"),
    ({"score_at_steps": [0]}, "has 0. It must be numbers of optimizer steps"),
    ({"dataset_name": "no.json"}, "no.json"),
    ({"reuse_projector": True}, "`reuse_projector=True` without a teacher.*--teacher_model_name_or_path FOLDER"),
    ({"teacher_model_name_or_path": "nobody/none"}, "'nobody/none' cannot be loaded as a LLaVA"),
    ({"tiles": [[1, 0]]}, r"tiles=\[\[1, 0\]\] is no choice of tiles.*--tiles"),
    ({"tiles": [[1, 2]], "image_mode": "pad"}, "image_mode='pad' with tiles"),
    ({"tiles": [[1, 2]], "feature_cache": "f"}, "`feature_cache='f'` with `tiles`"),
    ({"tiles": [[1, 2]], "teacher_model_name_or_path": "t"}, "`teacher_model_name_or_path='t'` with `tiles`"),
    ({"token_reduction": "shuffle"}, "`token_reduction='shuffle'` without `image_tokens`.*Add the number"),
    ({"max_length": 0}, "`max_length=0` is no number of tokens.*--max_length 2048"),
    ({"image_size": 30}, "image_size.*30 pixels.*Give another size"),
    *(
        ({"model_name_or_path": "x", "language_model": None, "vision_tower": None, name: value}, message)
        for name, value, message in (
            ("image_size", 64, "`image_size=64` with `model_name_or_path`"),
            ("image_tokens", 4, "`image_tokens=4` with `model_name_or_path`"),
            ("token_reduction", "pool", "`token_reduction=pool` with `model_name_or_path`"),
            ("tiles", [[1, 2]], r"`tiles=\[\[1, 2\]\]` with `model_name_or_path`"),
        )
    ),
    ({"chat_template": "klingon"}, "klingon.*qwen2"),
    ({"image_mode": "round"}, "image_mode.*round"),
    ({"vision_tower": "NAFLEX"}, "Siglip2.* makes images of any shape.*squares of one size"),
    ({"vision_tower": "NAFLEX", "image_size": 64}, "64 pixels.*it takes images of any shape"),
    (
        {"model_name_or_path": "TILES", "language_model": None, "vision_tower": None, "image_mode": "pad"},
        "`image_mode=pad` with 'TILES', which cuts images into tiles.*Start without `--image_mode`",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[json.dumps(values)[:60] for values, _ in BAD])
def test_bad_input_is_named_with_the_fix(values, message, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = START | {"max_train_samples": 8, "use_cpu": True, "report_to": "none"} | values
    if "chat_template" in values or "NAFLEX" in values.values():
        settings["language_model"] = str(folder / "lm")
    if "NAFLEX" in values.values():
        for part in tiny_siglip2():
            part.save_pretrained("NAFLEX")
    if "TILES" in values.values():
        save_llava(*build_llava("shapes-vit-t", folder / "lm", tiles=[[1, 2]]), "TILES")
    with pytest.raises(ValueError, match=message):
        train_vlm.main(["--config", write_yaml(Path("bad.yaml"), **settings)])
    assert not list(Path().glob("out/*.safetensors"))


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    command = [
        sys.executable,
        "recipes/train_vlm.py",
        "--language_model",
        "nowhere",
        "--language_model_recipe",
        "no.yaml",
    ]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
