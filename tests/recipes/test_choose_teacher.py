"""recipes/choose_teacher.py as a user runs it: wrong input, and the whole way in small."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from vision_teachers import MODELS, crop

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.study.running.stages import KINDS
from recipes import choose_teacher as recipe

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes/configs/choose_teacher"

STEPS = {"per_device_train_batch_size": 8, "warmup_steps": 1, "use_cpu": True}
TEACHER = {"recipe": "shapes/teacher.yaml", "model_name_or_path": "test-vit", "max_train_samples": 64} | STEPS
TINY = {
    "model_name_or_path": "test-vit",
    "teachers": {"S": TEACHER | {"max_steps": 2}, "L": TEACHER | {"max_steps": 4}},
    "dataset_name": "shapes",
    "split": "validation",
    "max_train_samples": 120,
    "questions": {"dataset_name": "shapes", "split": "validation", "vqa": True, "max_samples": 720},
    "pilot": {"max_steps": 3, "crop_scale": [1.0, 1.0]} | STEPS,
    "cache": {"augmentations": 1},
    "layer": -1,
    "seeds": [0, 1],
}


def written(folder, **changes):
    path = folder / "choice.yaml"
    path.write_text(yaml.safe_dump(TINY | {"output_dir": str(folder / "out")} | changes, sort_keys=False))
    return path


def wrong(folder, **changes):
    recipe.main(["--config", str(written(folder, **changes))])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"teachers": []}, r"`teachers` has \[\]. A choice needs two teachers"),
        ({"teachers": ["openai/clip-vit-base-patch16"]}, "A choice needs two teachers"),
        ({"teachers": {"a": "x/y", "b": "x/y"}}, "'b' is {'model': 'x/y'}, which is there already as 'a'"),
        ({"teachers": {"alone": "x/y", "b": "x/z"}}, "'alone' is the name of the student without a teacher"),
        ({"max_train_samples": 40}, r"There are \d+ images in the part 'held_out'.* It needs 20 or more"),
        ({"pilot": {"per_device_train_batch_size": 500}}, "images in the part 'pilot'.* It needs 500 or more"),
        ({"text_column": "caption", "dataset_name": str(CONFIGS / "no.csv")}, "no.csv"),
        ({"label_column": "species"}, "`label_column='species'` is not a column of the data"),
        ({"held_out": 1.0}, "`held_out=1.0` leaves one side without images"),
        ({"streaming": True}, "`datasets` and `streaming` are for data that a training reads"),
        (
            {"questions": {"dataset_name": "shapes", "split": "test", "vqa": True, "answers_column": "said"}},
            "`answers_column` is 'said', which is not a column",
        ),
        ({"losses": {"clip": 1.0}}, "whom it does not ask"),
    ],
    ids=[
        "none", "single", "twice", "alone", "few_held_out", "few_to_learn", "no_file", "no_label", "share", "stream",
        "no_answers", "no_teacher_asked",
    ],
)  # fmt: skip
def test_wrong_input_is_told_before_any_stage(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        wrong(tmp_path, **changes)
    assert not (tmp_path / "out/stages").exists()


def test_teachers_in_a_list_get_names():
    named = recipe.named_teachers(["openai/clip-vit-base-patch16", ["a/b", {"name": "timm:c", "weight": 2}]])
    assert named == {
        "openai-clip-vit-base-patch16": {"model": "openai/clip-vit-base-patch16"},
        "a-b+timm-c": {"model": ["a/b", {"name": "timm:c", "weight": 2}]},
    }


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_stage_of_a_recipe_is_taken_by_its_script(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (args,) = RecipeParser(recipe.ChooseTeacherArguments, path).parse(["--config", str(path)])
    pilots = recipe.make_plan(args, tmp_path, recipe.PurePosixPath("data/0"))
    assert [each.teacher for each in pilots] == ["alone", *args.teachers]
    assert all(list(each.students) == args.seeds for each in pilots)
    stages = recipe.in_order(pilots)
    assert {stage.kind for stage in stages} == {"teacher", "cache", "student", "evaluate"}
    for stage in stages:
        script = importlib.import_module(f"recipes.{KINDS[stage.kind].script.removesuffix('.py')}")
        names = {"distill.py": "DistillArguments", "cache_teacher.py": "CacheArguments"}
        dtypes = [getattr(script, names.get(KINDS[stage.kind].script, "EvaluateArguments"))]
        if KINDS[stage.kind].script == "distill.py":
            dtypes.append(script.kd.DistillationTrainingArguments)
        file = stage.write_arguments(tmp_path)
        RecipeParser(dtypes, file).parse(["--config", str(file)])


def test_pilots_of_several_processes_are_others(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path, found = CONFIGS / "demo.yaml", []
    for flags in ([], ["--accelerate_config", "accelerate_configs/multi_gpu.yaml"]):
        (args,) = RecipeParser(recipe.ChooseTeacherArguments, path).parse(["--config", str(path), *flags])
        pilots = recipe.make_plan(args, tmp_path, recipe.PurePosixPath("data/0"))
        found.append({stage.id for stage in recipe.in_order(pilots)})
    assert not found[0] & found[1] and len(found[0]) == len(found[1])


@pytest.mark.slow
def test_teachers_of_all_kinds_are_ranked_and_a_broken_one_is_named(tmp_path):
    for name, (model, processor) in {
        "clip": kd.load_clip("test-vit"),
        "dino": (MODELS["dinov2"][0](), crop()),
    }.items():
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    folders = {name: str(tmp_path / name) for name in ("clip", "dino", "nothing")}
    teachers = {"S": TINY["teachers"]["S"], "vision": folders["dino"], "broken": folders["nothing"]}
    teachers |= {"both": [folders["clip"], {"name": folders["dino"], "weight": 0.5}]}
    # The vision model reads no captions, so nor do the losses.
    path = written(tmp_path, teachers=teachers, losses={"clip": 1.0, "relation": 10.0}, seeds=[0])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "recipes/choose_teacher.py"), "--config", str(path)]
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "1 of 4 teachers could not be measured: broken" in first.stderr and "Traceback" not in first.stderr
    out = tmp_path / "out"
    record = json.loads((out / "choice.json").read_text())
    rows = {row["name"]: row for row in record["teachers"]}
    assert set(rows) == {"alone", "S", "vision", "both"} and list(record["failed"]) == ["broken"]
    assert (record["metric"], record["own_metric"], record["seeds"]) == ("question_probe", "question_probe", 1)
    assert all(set(row["pilots"]) == {"question_probe", "retrieval"} for row in rows.values())
    own = {name: set(row["own"]) for name, row in rows.items()}
    assert own == {"alone": set(), "S": {"question_probe", "retrieval"}, "vision": {"question_probe"}, "both": set()}
    # The distance of images and captions needs a text tower.
    assert {name for name, row in rows.items() if "gromov_wasserstein" in row["training_free"]} == {"S"}
    assert (out / "choice.md").is_file() and (out / "figures/teachers-dark.svg").is_file()
    # A student learned from what is not held out, and from that alone.
    (folder,) = (out / "data").iterdir()
    trained = yaml.safe_load(next((out / "stages").glob("student-*/arguments.yaml")).read_text())
    assert trained["dataset_name"] == str(folder / "pilot")
    # The second run trains nothing, and says the same.
    before = {stage: stage.stat().st_mtime_ns for stage in (out / "stages").glob("*/stage.json")}
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 1 and json.loads((out / "choice.json").read_text()) == record
    assert before == {stage: stage.stat().st_mtime_ns for stage in (out / "stages").glob("*/stage.json")}
