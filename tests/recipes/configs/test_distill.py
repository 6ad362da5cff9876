"""The YAMLs of recipes/distill.py and recipes/evaluate.py: each builds all but its downloads."""

import functools
import inspect
import re
from dataclasses import replace

import open_clip
import pytest
import timm
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value
from recipe_runs import ROOT, with_class_names

import hf_clip_kd as kd
from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.compositional import COMPOSITIONAL
from hf_clip_kd.models.names import parse_name
from hf_clip_kd.recipe_io.parser import RecipeParser
from recipes import distill as recipe
from recipes import evaluate

DISTILL = sorted((ROOT / "recipes/configs/distill").glob("*.yaml"))
EVALUATE = sorted((ROOT / "recipes/configs/evaluate").glob("*.yaml"))
FULL_SCALE = [path for path in DISTILL if path.stem.endswith("_cc12m")]


def parse(path, *flags):
    # The CPU, because a recipe for GPUs asks for bf16, which transformers refuses where there is none.
    parser = RecipeParser((recipe.DistillArguments, kd.DistillationTrainingArguments), path)
    return parser.parse(["--config", str(path), "--use_cpu", "true", *flags])


def trained_by_recipe():
    """The model that each recipe without a teacher trains, by the folder it leaves."""
    recipes = [yaml.safe_load(path.read_text()) for path in DISTILL]
    return {
        values["output_dir"]: values["model_name_or_path"]
        for values in recipes
        if "teacher_model_name_or_path" not in values
    }


def teacher_dims(script):
    """Widths of the teacher that a recipe names, without its weights."""
    name = script.teacher_model_name_or_path
    if name is None:
        return None
    entries = name if isinstance(name, list) else [name]
    names = [entry["name"] if isinstance(entry, dict) else entry for entry in entries]
    dims = [dims_of(name) for name in names]
    return replace(dims[0], members=tuple(dims)) if isinstance(name, list) else dims[0]


@functools.cache
def dims_of(name):
    trained = trained_by_recipe()
    if name in trained:
        return replace(kd.CLIPDims.of(kd.load_clip(trained[name])[0]), token_dim=8)
    if name.startswith("timm:"):
        with torch.device("meta"):
            width = timm.create_model(parse_name(name).architecture, num_classes=0).num_features
        return kd.CLIPDims(embed_dim=width, token_dim=8, has_text=False)
    architecture, tag = name.removeprefix("open_clip:").split("/")
    assert tag in open_clip.list_pretrained_tags_by_model(architecture)
    return kd.CLIPDims(embed_dim=open_clip.get_model_config(architecture)["embed_dim"])


def untrained(name):
    """The teacher that a recipe names, with random weights."""
    architecture = name.removeprefix("open_clip:").split("/")[0]
    return kd.CLIPTeacher(open_clip.create_model(architecture))


def check_evaluation(evaluation):
    """Build the evaluators on one row of data, loaded with arguments that `load_image_text` would take."""
    options = {*inspect.signature(kd.load_image_text).parameters, "name", "revision", "seed", "vqa", "image_size"}

    def load(dataset_name, *, text_column=None, **data):
        assert set(data) <= options
        if dataset_name == "shapes":
            return load_shapes(data["split"], size=64)
        named = any(
            block.get("class_names") for block in evaluation.values() if text_column == block.get("label_column")
        )
        rows = {"image": [{"bytes": b"", "path": None}], "text": ["0"]} | ({} if named else {"label": [0]})
        classes = {} if named else {"label": ClassLabel(names=["one class"])}
        return Dataset.from_dict(rows, Features({"image": Image(decode=False), "text": Value("string")} | classes))

    evaluator = build_evaluator(with_class_names(evaluation), load)
    assert [part.name for part in evaluator.evaluators] == list(evaluation)


# The weights of a ViT-B/16, and of the teacher for pictures, take their time to be drawn.
LARGE = {"vit_s16_inherits_vit_b16_cc12m", "pictures", "pictures_teacher", "pictures_tokens"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LARGE)) for path in DISTILL],
)
def test_recipe_builds_all_but_the_download(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    script, training = parse(path)
    student, processor = kd.load_clip(script.model_name_or_path)
    assert processor.image_processor.crop_size["height"] == student.config.vision_config.image_size
    dims = teacher_dims(script)
    if script.init_image_tower is not None:
        assert parse_name(script.init_image_tower).architecture == student.config.vision_config.architecture
    if script.init_from_teacher is not None:
        teacher = untrained(script.teacher_model_name_or_path)
        student, processor = kd.init_from_teacher(student, processor, teacher, script.init_from_teacher)
    model = kd.DistillationModel(student, training.losses, dims)
    assert model.losses.needs_teacher == (dims is not None)
    terms = [term for name, term in model.losses.terms.items() if name not in ("reader", "caption", "patch")]
    heads = [head for term in terms for head in term.modules() if hasattr(head, "out_features")]
    teachers = [] if dims is None else dims.members or [dims]
    wider = any(teacher.embed_dim != model.student_dims.embed_dim for teacher in teachers)
    assert bool(heads) == (wider and bool({"fd", "icl"} & set(training.losses)))
    if script.evaluation is not None:
        check_evaluation(script.evaluation)


@pytest.mark.parametrize("path", EVALUATE, ids=lambda path: path.stem)
def test_evaluation_recipe_is_sound(path):
    """Build its evaluators; a benchmark that is read from the user's own files is known at least."""
    (args,) = RecipeParser(evaluate.EvaluateArguments, path).parse([])
    assert args.model_name_or_path
    own_files = {name: block for name, block in args.evaluation.items() if "annotations" in block}
    assert {block["dataset_name"] for block in own_files.values()} <= {*COMPOSITIONAL, "xm3600"}
    check_evaluation({name: block for name, block in args.evaluation.items() if name not in own_files})


@pytest.mark.parametrize("path", FULL_SCALE, ids=lambda path: path.stem)
def test_full_scale_recipe_trains_as_the_paper(path):
    script, training = parse(path)
    assert (training.learning_rate, training.weight_decay, training.warmup_steps) == (1e-3, 0.1, 10_000)
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.98, 1e-6)
    assert (training.num_train_epochs, training.max_grad_norm, training.bf16) == (32, 0, True)
    assert 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps == 1024
    assert training.lr_scheduler_type == "cosine" and script.crop_scale == [0.9, 1.0]
    if script.teacher_model_name_or_path is not None:
        published = {"clip": 1, "crd": 1, "icl": 1, "fd": {"weight": 2000, "reduction": "mean"}}
        assert training.losses == (published if script.init_from_teacher is None else "tinyclip")
    assert f"--config recipes/configs/distill/{path.name}" in path.read_text()
    # The stream that the comment offers is as long as 32 epochs of 10 M pairs.
    (steps,) = re.findall(r"max_steps: (\d+)", path.read_text())
    assert int(steps) == 32 * 10_000_000 / 1024
