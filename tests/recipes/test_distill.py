"""recipes/distill.py: its help, one run from end to end, and bad input in one line."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image as PILImage
from recipe_runs import ROOT, TINY
from safetensors.torch import load_file
from teacher_models import tiny_siglip2

import hf_clip_kd as kd
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.hub.cards import render_card
from hf_clip_kd.hub.cards.sources import read_recipe, sources
from recipes import distill as recipe
from recipes import evaluate

# ---- Help ----


def test_help_is_short_and_help_all_has_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "119")
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            recipe.main([flag])
        shown[flag] = capsys.readouterr().out
    assert len(shown["--help"].splitlines()) < min(200, 0.6 * len(shown["--help-all"].splitlines()))
    dtypes = (recipe.DistillArguments, kd.DistillationTrainingArguments)
    names = [field.name for dtype in dtypes for field in fields(dtype) if field.init]
    assert [name for name in names if f"\n  --{name} " not in shown["--help-all"]] == []
    first = re.findall(r"^  --(\w+)", shown["--help"].split("Most often set:")[1], re.MULTILINE)
    assert first[: len(recipe.MOST_OFTEN_SET)] == list(recipe.MOST_OFTEN_SET)


# ---- One run, end to end ----

MEASURED = {
    "zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 64},
    "retrieval": {"dataset_name": "shapes", "split": "retrieval", "max_samples": 20},
}


def write_yaml(path, **values):
    path.write_text(yaml.safe_dump(TINY | values))
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with `teacher` and `student`, as a run with a teacher's recipe leaves it, and the run's scores."""
    folder = tmp_path_factory.mktemp("run")
    teacher = write_yaml(
        folder / "teacher.yaml", model_name_or_path="test-resnet", losses={"clip": 1}, output_dir="not/here"
    )
    student = write_yaml(
        folder / "student.yaml",
        teacher_model_name_or_path=str(folder / "teacher"),
        teacher_recipe=teacher,
        losses={"clip": 1, "crd": 1, "icl": 1, "fd": {"weight": 2000, "reduction": "mean"}},
        evaluation=MEASURED,
        output_dir=str(folder / "student"),
    )
    return folder, recipe.main(["--config", student, "--seed", "3"])


def test_a_teacher_that_was_stopped_goes_on(tmp_path):
    stopped = {"model_name_or_path": "test-resnet", "losses": {"clip": 1}, "max_hours": 1e-9, "output_dir": "not/here"}
    student = write_yaml(
        tmp_path / "student.yaml",
        teacher_model_name_or_path=str(tmp_path / "teacher"),
        teacher_recipe=write_yaml(tmp_path / "teacher.yaml", **stopped),
        losses={"fd": 1},
        evaluation=None,
        max_steps=1,
        output_dir=str(tmp_path / "student"),
    )
    with pytest.raises(SystemExit, match="0"):
        recipe.main(["--config", student])
    assert (tmp_path / "teacher" / "checkpoint-1").is_dir() and not (tmp_path / "student").exists()
    recipe.main(["--config", student])  # the last step of a run needs no stopping
    assert (tmp_path / "student" / "config.json").is_file()


def test_a_teacher_whose_weights_were_cut_short_is_trained_again(tmp_path):
    """Its `config.json` is there before its weights."""
    recipe_of_teacher = {"model_name_or_path": "test-resnet", "losses": {"clip": 1}, "output_dir": "not/here"}
    script = SimpleNamespace(
        teacher_model_name_or_path=str(tmp_path / "teacher"),
        teacher_recipe=write_yaml(tmp_path / "teacher.yaml", **recipe_of_teacher),
        teacher_dtype=None,
        teacher_device=None,
        teacher_compile=False,
        trust_remote_code=False,
    )
    recipe.make_teacher(script)
    path = tmp_path / "teacher" / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    recipe.make_teacher(script)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("visible", "gpu"), [(None, "0"), ("3,1", "3"), ("", "")])
def test_a_reader_that_was_stopped_goes_on_as_one_process_on_one_gpu(visible, gpu, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        recipe.subprocess,
        "run",
        lambda *args, **options: started.append((*args, options)) or SimpleNamespace(returncode=0),
    )
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    script = SimpleNamespace(reader_recipe="demo.yaml", teacher_model_name_or_path="teacher")
    recipe.make_reader(script, str(tmp_path / "reader"))
    ((command, options),) = started
    assert command[-2:] == ["--resume_from_checkpoint", "auto"]
    assert options["env"]["CUDA_VISIBLE_DEVICES"] == gpu and "LOCAL_RANK" not in options["env"]


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_leaves_a_model_its_heads_its_recipe_and_its_scores(finished):
    folder, scores = finished
    student = folder / "student"
    left = {path.name for path in student.iterdir()}
    assert left >= {
        "config.json", "model.safetensors", "losses.safetensors", "recipe.yaml", "results", "training_args.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert left & {"processor_config.json", "preprocessor_config.json"}
    assert not (ROOT / "not").exists()
    records = [json.loads(path.read_text()) for path in (student / "results").glob("*.json")]
    merged = {}
    for record in records:
        merged |= record["metrics"]
        assert record["dataset"].startswith("shapes") and record["config"]["seed"] == 3
    assert len(records) == 2 and merged == scores
    assert {"acc1", "image_retrieval_recall@1", "text_retrieval_recall@1"} <= set(scores)
    assert all(0 <= score <= 1 for score in scores.values())
    assert "losses.terms.icl.logit_scale" in load_file(student / "losses.safetensors")


def test_the_saved_recipe_gives_the_same_weights_again(finished, tmp_path):
    folder, scores = finished
    saved = folder / "student" / "recipe.yaml"
    assert yaml.safe_load(saved.read_text())["seed"] == 3
    again = recipe.main(["--config", str(saved), "--output_dir", str(tmp_path)])
    assert again == scores
    first, second = weights(folder / "student"), weights(tmp_path)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    recipe.main(["--config", str(saved), "--output_dir", str(tmp_path / "other"), "--seed", "4"])
    assert any(not torch.equal(first[key], value) for key, value in weights(tmp_path / "other").items())


def test_a_run_goes_on_from_a_folder(finished, tmp_path):
    folder, _ = finished
    recipe.main(
        ["--config", write_yaml(tmp_path / "r.yaml", output_dir=str(tmp_path), losses={"clip": 1}, learning_rate=0.0),
         "--model_name_or_path", str(folder / "student")]
    )  # fmt: skip
    first, second = weights(folder / "student"), weights(tmp_path)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_generated_captions_reach_the_losses(finished, tmp_path):
    config = write_yaml(
        tmp_path / "r.yaml",
        teacher_model_name_or_path=str(finished[0] / "teacher"),
        losses="mobileclip",
        output_dir=str(tmp_path),
        max_steps=1,
    )
    runs = []
    for flags in ([], ["--synthetic_text_column", "synthetic_text"]):
        recipe.main(["--config", config, *flags, "--output_dir", str(tmp_path / str(len(runs)))])
        runs.append(weights(tmp_path / str(len(runs))))
    # The first batch has the same crops and captions in both, so what differs comes from the generated ones.
    assert any(not torch.equal(runs[0][key], value) for key, value in runs[1].items())


def test_two_teachers(finished, tmp_path):
    """A list of teachers, one as a mapping, in YAML; each has a learned scale of its own."""
    folders = [str(finished[0] / name) for name in ("teacher", "student")]
    config = write_yaml(
        tmp_path / "r.yaml",
        teacher_model_name_or_path=[folders[0], {"name": folders[1], "weight": 0.5, "dtype": "bfloat16"}],
        teacher_dtype="float32",
        losses={"clip": 1.0, "icl": 1.0},
        output_dir=str(tmp_path),
        max_steps=1,
    )
    recipe.main(["--config", config])
    heads = load_file(tmp_path / "losses.safetensors")
    assert {f"losses.terms.icl.losses.{k}.logit_scale" for k in (0, 1)} <= heads.keys()
    assert heads["losses.terms.icl.pulls"].shape == (2,) and heads["losses.terms.icl.steps"] == 1


def test_a_student_at_another_size(finished, tmp_path):
    folder, _ = finished
    config = write_yaml(
        tmp_path / "r.yaml",
        teacher_model_name_or_path={"name": str(folder / "student"), "image_size": 48},
        losses={"clip": 1, "fd": 4},
        image_size=64,
        image_sizes=[32, 64],
        teacher_image_sizes=[32, 48],
        evaluation=MEASURED,
        output_dir=str(tmp_path / "out"),
    )
    scores = recipe.main(["--config", config])
    model, processor = kd.load_clip(tmp_path / "out")
    assert model.config.vision_config.image_size == processor.image_processor.crop_size["height"] == 64
    again = ["--evaluation", json.dumps(MEASURED), "--output_dir", str(tmp_path / "scores")]
    (at_64,) = evaluate.main(["--model_name_or_path", str(tmp_path / "out"), *again]).values()
    assert at_64 == scores
    own, processor = kd.load_clip(folder / "student")
    (at_48,) = evaluate.main(["--model_name_or_path", str(folder / "student"), "--image_size", "48", *again]).values()
    resized, processor = kd.models.resize_images(own, processor, 48)
    assert at_48 == build_evaluator(MEASURED, kd.load_image_text)(resized.eval(), processor)


@pytest.mark.slow
def test_an_image_tower_starts_from_another(finished, tmp_path):
    """A run that learns nothing keeps the tower that it was given, and the rest of a fresh student."""
    tower = str(finished[0] / "student")
    config = write_yaml(tmp_path / "r.yaml", losses={"clip": 1}, learning_rate=0.0, output_dir=str(tmp_path / "out"))
    recipe.main(["--config", config, "--init_image_tower", tower])
    given, found = weights(finished[0] / "student"), weights(tmp_path / "out")
    same = {name for name in found if torch.equal(given[name], found[name])}
    assert {name for name in found if name.startswith("vision_model.")} <= same
    assert {"visual_projection.weight", "text_projection.weight"}.isdisjoint(same)
    found_sources = sources(read_recipe(tmp_path / "out"))
    assert [source.name for source in found_sources if source.role == "starting weights"] == ["student"]


@pytest.mark.slow
def test_curricula_and_defects_of_a_yaml(finished, tmp_path):
    """A cascade of two teachers, weights that change, and defects; the recipe beside the model says it all again."""
    first, second = (str(finished[0] / name) for name in ("teacher", "student"))
    config = write_yaml(
        tmp_path / "r.yaml",
        teacher_model_name_or_path=[
            {"name": first, "weight": {0: 1, 0.5: 0}},
            {"name": second, "weight": {0: 0, 0.5: 1}},
        ],
        losses={"clip": 1.0, "icl": {"weight": {"ramp": {0: 1, 1: 2}}, "frozen_heads": 2}},
        independent_crops=True,
        output_dir=str(tmp_path / "out"),
    )
    recipe.main(["--config", config])
    recipe.main(["--config", str(tmp_path / "out" / "recipe.yaml"), "--output_dir", str(tmp_path / "again")])
    found, again = weights(tmp_path / "out"), weights(tmp_path / "again")
    assert found.keys() == again.keys() and all(torch.equal(found[name], again[name]) for name in found)
    card = render_card(tmp_path / "out")
    assert "weight 1 at 0 %, 2 at 100 % of the steps, linear between" in card
    assert "defects of published code, on purpose:** `frozen_heads: 2 of icl`, `independent_crops`" in card


def test_own_images_with_a_broken_one(finished, tmp_path, caplog):
    images = tmp_path / "images"
    for i in range(40):
        folder = images / "train" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (40 + i, 30), (6 * i, 0, 255 - 6 * i)).save(folder / f"{i:02}.png")
    (images / "train" / "cat" / "20.png").write_bytes(b"this is no picture")
    config = write_yaml(
        tmp_path / "own.yaml",
        teacher_model_name_or_path=str(finished[0] / "teacher"),
        losses={"fd": 4.0},
        dataset_name="imagefolder",
        data_dir=str(images),
        text_column="label",
        max_train_samples=None,
        max_steps=3,
        output_dir=str(tmp_path / "out"),
    )
    assert recipe.main(["--config", config]) == {}
    assert "20.png" in caplog.text
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_several_sources_are_mixed(tmp_path, caplog):
    PILImage.new("RGB", (40, 30), (0, 90, 255)).save(tmp_path / "0.png")
    (tmp_path / "mine.csv").write_text("filepath,title\n0.png,a blue page\ngone.png,nothing\n")
    shapes = {"dataset_name": "shapes", "max_samples": 20}
    config = write_yaml(
        tmp_path / "mix.yaml",
        losses={"clip": 1.0},
        datasets=[shapes | {"weight": 3}, {"dataset_name": str(tmp_path / "mine.csv"), "streaming": True}],
        max_steps=3,
        max_broken_fraction=1.0,
        output_dir=str(tmp_path / "out"),
    )
    recipe.main(["--config", config])
    assert (tmp_path / "out" / "model.safetensors").is_file()
    # Half of a quarter of the rows; the end of the run says how many there were, and which.
    assert "rows skipped as broken, among them:" in caplog.text and "gone.png (FileNotFoundError" in caplog.text


# ---- Bad input ----

BAD = [
    ({"losses": {"clp": 1}}, "'clp' in `losses` is no loss.*Did you mean .*'clip'"),
    ({"losses": {"fd": {"weight": 4, "reduce": "sum"}}}, "'fd' in `losses` has no option 'reduce'.*Allowed are"),
    (
        {"losses": {"clip": {"weight": {0: 1, 0.5: -1}}}},
        "weight .* of the loss 'clip' .*at least 0.*`{0: 2.0, 0.5: 0.5}`.*Write for example",
    ),
    ({"losses": {"clip": {"frozen_heads": 0}}}, "`frozen_heads=0` of the loss 'clip'.*at least 1. Write for example"),
    (
        {"independent_crops": True},
        "`independent_crops=True` with `teacher_model_name_or_path=None`.*needs a teacher.*Name a teacher",
    ),
    (
        {"independent_crops": True, "teacher_model_name_or_path": "a", "teacher_cache": "b"},
        "`teacher_cache=b`.*a cache holds those of the student.*leave `teacher_cache` out",
    ),
    (
        {"init_image_tower": "timm:resnet18", "init_from_teacher": ["image"]},
        "`init_image_tower=timm:resnet18` with `init_from_teacher=.'image'.`.*Take `image` out",
    ),
    ({"init_image_tower": "FOLDER"}, "FOLDER.*cannot be loaded as a tower"),
    ({"losses": {"fd": 4}}, r"The losses \['fd'\] need a teacher.*teacher_model_name_or_path.*losses="),
    ({"image_column": "picture", "dataset_name": "FILE.csv"}, "image_column='picture'.*columns are.*'filepath'.*Pass"),
    ({"text_column": "caption", "dataset_name": "FILE.csv"}, "text_column='caption'.*columns are.*'title'.*Pass"),
    ({"dataset_name": "EMPTY.csv"}, "EMPTY.csv.*is empty.*at least one image.*Pass"),
    (
        {"synthetic_text_column": "coca", "dataset_name": "FILE.csv"},
        "synthetic_text_column='coca'.*columns are.*'title'.*Pass the one that holds the generated captions",
    ),
    ({"dataset_name": "imagefolder", "data_dir": "FOLDER"}, "imagefolder.*FOLDER.*data_files"),
    ({"dataset_name": "imagefolder", "data_dir": "nowhere"}, "data_dir='nowhere'.*is not a folder.*Pass"),
    ({"dataset_name": "nobody/no-such-data"}, "'nobody/no-such-data'.*doesn't exist on the Hub.*Correct the name"),
    ({"datasets": [{"dataset_name": "FILE.csv", "weight": 0}]}, r"`weights=\[0\]`.*above 0"),
    ({"max_stepz": 3}, "bad.yaml, line .*'max_stepz' is no argument. Did you mean `max_steps`"),
    ({"max_steps": 3.7}, "bad.yaml, `max_steps`.*3.7.*It takes"),
    ({"model_name_or_path": "test-vitt"}, "'test-vitt'.*Did you mean load_clip\\('test-vit'\\)"),
    ({"model_name_or_path": "FOLDER"}, "FOLDER.* is no saved model.*config.json.*Allowed are"),
    ({"model_name_or_path": "nobody/no-such-model"}, "'nobody/no-such-model' is no preset.*Hub.*hf download"),
    ({"teacher_model_name_or_path": "FOLDER"}, "FOLDER.*config.json"),
    (
        {"teacher_model_name_or_path": "FOLDER", "teacher_dtype": "half"},
        "dtype 'half' is unknown. Allowed are float32",
    ),
    ({"teacher_model_name_or_path": [{"weight": 2}]}, "has no name. Allowed are name, weight.*Write for example"),
    (
        {"teacher_model_name_or_path": ["a"], "teacher_recipe": "x"},
        "makes the folder of one teacher.*each teacher first",
    ),
    ({"teacher_model_name_or_path": "nobody/no-such-model"}, "'nobody/no-such-model'.*Hub"),
    ({"teacher_model_name_or_path": "open_clip:ViT-B-61/openai"}, "ViT-B-61.*ViT-B-16"),
    ({"image_size": 30}, "image_size.*30 pixels.*Give another size"),
    ({"image_sizes": []}, r"`image_sizes=\[\]` is no choice of image sizes.*leave `image_sizes` out"),
    ({"image_sizes": [32, 30]}, "`image_sizes`: 30 pixels are no size.*Give another size"),
    (
        {"teacher_model_name_or_path": "TEACHER", "teacher_image_sizes": []},
        r"`teacher_image_sizes=\[\]` is no choice of image sizes",
    ),
    ({"teacher_image_sizes": [32]}, r"`teacher_image_sizes=\[32\]` with no teacher"),
    ({"model_name_or_path": "NAFLEX", "image_size": 64}, "image_size.*64 pixels.*it takes images of any shape"),
    ({"model_name_or_path": "NAFLEX", "image_sizes": [32]}, r"`image_sizes=\[32\]` with a Siglip2.*keeps the shape"),
    (
        {"teacher_model_name_or_path": "NAFLEX", "teacher_image_sizes": [32]},
        r"`teacher_image_sizes=\[32\]` with a Naflex.*keeps the shape",
    ),
    ({"evaluation": {"zero_shott": MEASURED["zero_shot"]}}, "'zero_shott' is no task.*zero_shot"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[json.dumps(values)[:60] for values, _ in BAD])
def test_bad_input_is_named_with_the_fix(values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("FOLDER").mkdir()
    PILImage.new("RGB", (8, 8)).save("0.png")
    Path("FILE.csv").write_text("filepath,title\n0.png,a red circle\n")
    Path("EMPTY.csv").write_text("image,text\n")
    for folder, make in (("TEACHER", lambda: kd.load_clip("test-vit")), ("NAFLEX", tiny_siglip2)):
        if folder in values.values():
            for part in make():
                part.save_pretrained(folder)
    config = write_yaml(Path("bad.yaml"), **({"losses": {"clip": 1}, "output_dir": "out"} | values))
    with pytest.raises(ValueError, match=message):
        recipe.main(["--config", config])
    assert not list(Path().glob("out/*.safetensors"))


@pytest.fixture(scope="module")
def refused_run(tmp_path_factory):
    """The script in a process of its own, with bad input; its errors also list every module that it imports."""
    folder = tmp_path_factory.mktemp("refused")
    config = write_yaml(folder / "bad.yaml", losses={"fd": 4}, output_dir=str(folder))
    command = [sys.executable, "-X", "importtime", "recipes/distill.py", "--config", config]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_bad_input_is_one_line_and_exit_code_2(refused_run):
    assert refused_run.returncode == 2
    last = [line for line in refused_run.stderr.splitlines() if not line.startswith("import time:")][-1]
    assert last.startswith("error: ") and "teacher_model_name_or_path" in last
    assert "Traceback" not in refused_run.stderr


def test_a_start_imports_no_library_that_only_others_use(refused_run):
    imported = {line.split("|")[-1].strip() for line in refused_run.stderr.splitlines() if "import time:" in line}
    assert {"torch", "datasets", "transformers", "hf_clip_kd"} <= imported
    assert not imported & {"evaluate", "sklearn", "matplotlib", "open_clip", "onnx"}


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_a_run_that_did_nothing_ends_with_code_2_and_leaves_no_model(broken, tmp_path):
    (tmp_path / "pictures").mkdir()
    lines = ["image,text"]
    for i in range(10):
        path = tmp_path / "pictures" / f"{i}.png"
        PILImage.new("RGB", (40, 40), (20 * i, 90, 0)).save(path)
        if broken:
            path.write_bytes(b"")
        lines.append(f"{path},picture {i}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    config = write_yaml(
        tmp_path / "run.yaml",
        dataset_name=str(tmp_path / "table.csv"),
        per_device_train_batch_size=5 if broken else 16,
        losses={"clip": 1},
        evaluation=MEASURED,
        output_dir=str(tmp_path / "student"),
    )
    command = [sys.executable, "recipes/distill.py", "--config", config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    said = "10 of 10 rows are broken" if broken else "10 rows, fewer than the 16 of one batch"
    assert done.returncode == 2 and said in done.stderr.strip().splitlines()[-1]
    left = {path.name for path in (tmp_path / "student").iterdir()}
    assert not left & {"model.safetensors", "losses.safetensors", "results", "README.md"}
