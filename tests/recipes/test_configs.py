"""The YAMLs of studies: every stage's arguments are taken by its recipe, and all is built but the downloads."""

import functools
import importlib
import inspect
import json
from collections import Counter
from pathlib import Path

import open_clip
import pytest
import yaml
from datasets import Dataset, Features, Image, List, Value
from recipe_runs import with_class_names
from transformers import SiglipConfig

import hf_clip_kd as kd
from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.losses import requested
from hf_clip_kd.losses.features import PROJECTOR, FeatureRequest
from hf_clip_kd.losses.specification import defects
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import cell_id
from hf_clip_kd.study.running.forecast import Forecast
from hf_clip_kd.study.running.grid import Reader
from hf_clip_kd.study.running.objectives import every_objective
from hf_clip_kd.study.running.plan import Plan
from hf_clip_kd.study.running.stages import KINDS
from hf_clip_kd.study.running.teacher_readers import without_readers
from hf_clip_kd.vlm import LlavaTrainingArguments, list_chat_templates
from recipes import train_vlm

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes/configs/study"
STUDIES = sorted(CONFIGS.glob("*.yaml"))
BENCHMARKS = {"vqav2", "gqa", "textvqa", "pope", "mme", "scienceqa", "mmmu", "vizwiz"}
VISION_CENTRIC = {"mmvp", "cvbench", "blink", "naturalbench", "realworldqa", "mmstar"}
DOCUMENTS = {"docvqa", "infovqa", "chartqa", "ocrbench", "ai2d"}


def dataclasses_of(script):
    """Return the dataclasses that a recipe parses."""
    module = importlib.import_module(f"recipes.{script.removesuffix('.py')}")
    own = {
        "distill.py": ("DistillArguments", kd.DistillationTrainingArguments),
        "cache_teacher.py": ("CacheArguments", None),
        "evaluate.py": ("EvaluateArguments", None),
        "prime_lm.py": ("PrimeArguments", LlavaTrainingArguments),
        "train_vlm.py": ("TrainVLMArguments", LlavaTrainingArguments),
        "evaluate_vlm.py": ("EvaluateVLMArguments", None),
        "measure_cost.py": ("CostArguments", None),
    }
    name, training = own[script]
    return [dtype for dtype in (getattr(module, name), training) if dtype is not None]


@functools.cache  # Tests only read a plan, and a large one takes a second.
def load(path, *flags):
    (study,) = RecipeParser(StudyArguments, path).parse(["--config", str(path), *flags])
    return Plan(study, CONFIGS)


@functools.cache
def parser_of(script):
    return RecipeParser(dataclasses_of(script), CONFIGS)


def parsed(stage, root):
    """Parse the arguments of a stage as its recipe does. The CPU is used because bf16 without a GPU is refused."""
    parser, path = parser_of(KINDS[stage.kind].script), stage.write_arguments(root)
    cpu = ["--use_cpu", "true"] if len(parser.dataclass_types) == 2 else []
    return parser.parse(["--config", str(path), *cpu])


@pytest.fixture(params=STUDIES, ids=lambda path: path.stem)
def plan(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    return load(request.param)


def test_every_stage_is_taken_by_its_recipe(plan, tmp_path):
    one_of_each = {(stage.kind, str(sorted(stage.arguments))): stage for stage in plan.stages}
    for stage in one_of_each.values():
        parsed(stage, tmp_path)


@functools.cache
def teacher_of(preset):
    model, processor = kd.load_clip(preset)
    return kd.CLIPTeacher(model, processor=processor)


def dims_of(preset, losses):
    teacher, request = teacher_of(preset), requested(without_readers(losses))
    own = [layer for layer in request.teacher_reads if layer != PROJECTOR]
    teacher.prepare(FeatureRequest.of_layers((), own, patch_embeds=request.patch_embeds))
    if own == list(request.teacher_reads):
        return teacher.dims
    # The language model is not there yet. Any width serves.
    return teacher.dims.with_layers({layer: teacher.dims.at(layer).token_dim for layer in own} | {PROJECTOR: 64})


def teacher_dims(stage):
    """Widths of a student's teacher, without its weights."""
    name = stage.arguments.get("teacher_model_name_or_path")
    if name is None:
        return None
    if not isinstance(name, str):  # a stage trains it
        (teacher,) = [need for need in stage.needs if need.kind == "teacher"]
        return dims_of(teacher.arguments["model_name_or_path"], stage.arguments["losses"])
    recipes = [yaml.safe_load(path.read_text()) for path in CONFIGS.parent.glob("distill/*.yaml")]
    made_from = {recipe.get("output_dir"): recipe["model_name_or_path"] for recipe in recipes}
    if name in made_from:
        return dims_of(made_from[name], stage.arguments["losses"])
    if name.startswith("timm:"):
        return kd.CLIPDims(embed_dim=1280, token_dim=8, has_text=False)
    if name.startswith("open_clip:"):
        architecture, tag = name.removeprefix("open_clip:").split("/")
        assert tag in open_clip.list_pretrained_tags_by_model(architecture)
        return kd.CLIPDims(embed_dim=open_clip.get_model_config(architecture)["embed_dim"])
    return kd.CLIPDims(embed_dim={"openai/clip-vit-base-patch16": 512}.get(name, SIGLIP_WIDTH))


# All SigLIPs of the size base have the width that transformers takes by default.
SIGLIP_WIDTH = SiglipConfig().vision_config.hidden_size


def test_every_student_and_its_losses_are_built(plan, tmp_path):
    # A reader of the study is a folder, another for each teacher.
    students = {
        (s.arguments["model_name_or_path"], str(without_readers(s.arguments["losses"]))): s
        for s in plan.stages
        if s.kind == "student"
    }
    objectives = {str(without_readers(losses)) for losses in plan.study.objectives.values()}
    assert {losses for _, losses in students} == objectives
    students |= {str(s.arguments.get("teacher_model_name_or_path")): s for s in plan.stages if s.kind == "student"}
    presets = {name: kd.load_clip(name)[0] for name in plan.study.students.values()}
    for stage in students.values():
        script, training = parsed(stage, tmp_path)
        student, dims = presets[script.model_name_or_path], teacher_dims(stage)
        model = kd.DistillationModel(student, training.losses, dims)
        assert model.losses.needs_teacher == (dims is not None)


def test_vision_language_models_are_sound(plan, tmp_path):
    stages = [stage for stage in plan.stages if KINDS[stage.kind].script == "train_vlm.py"]
    for stage in {str(stage.arguments.keys()): stage for stage in stages}.values():
        script, training = parsed(stage, tmp_path)
        train_vlm.check(script, training)
        assert script.chat_template is None or script.chat_template in list_chat_templates()
        assert script.beside is None
    for measured in plan.cells.values():  # somebody asks the questions
        assert measured.vqa is None if not plan.study.vlm else measured.vqa.arguments["evaluation"]


def test_the_miniature_has_what_the_paper_varies():
    plan = load(CONFIGS / "miniature.yaml")
    values = {
        axis: {cell.axes[axis] for cell in plan.cells} for axis in ("teacher", "objective", "duration", "data", "seed")
    }
    strengths = {plan.study.teachers[name].get("strength", name) for name in values["teacher"] - {None}}
    assert len(strengths) >= 4 and len(values["data"]) == 2 and len(values["seed"]) >= 3
    assert {"crd", "fd", "icl", "clip_kd", "clip_kd_patch"} <= values["objective"]
    assert [plan.study.durations[name] for name in sorted(values["duration"])] == [1, 4]
    steps = [
        plan.teachers[name, Reader("tiny", "default", None)].training.arguments["max_steps"]
        for name in plan.study.teachers
    ]
    assert steps == sorted(steps)


def test_the_cells_of_the_miniature_are_those_that_were_run():
    plan = load(CONFIGS / "miniature.yaml")
    record = json.loads((ROOT / "model_cards/miniature/study.json").read_text(encoding="utf-8"))
    assert [cell_id(plan, cell) for cell in plan.cells] == record["cells"]


def test_the_answer_can_be_judged():
    """Strength does not mix with size, the main objectives have five seeds, and it ends in six hours."""
    plan = load(CONFIGS / "answer.yaml")
    study, students = plan.study, set()
    for cell in plan.cells:
        students.add((cell.objective, cell.teacher, cell.duration, cell.language_model, cell.seed))
    strengths = Counter(
        entry.get("strength", name)
        for name, entry in study.teachers.items()
        if "lift" not in entry and "model_name_or_path" not in entry
    )
    assert set(strengths.values()) == {2} and len(strengths) == 4
    equal = [name for name, entry in study.teachers.items() if entry.get("strength", name) in strengths]
    equal = [name for name in equal if "lift" not in study.teachers[name]]
    main = [name for name in equal if study.teachers[name].get("strength", name) != "M"]
    assert {("only_projected", name, "x4", "tiny", seed) for name in main for seed in range(5)} <= students
    assert {("alone", None, duration, "tiny", seed) for duration in ("x4", "x8") for seed in range(5)} <= students
    for objective, seeds in {"clip_kd": 5, "dense": 3, "projected": 3}.items():
        assert {(objective, name, "x4", "tiny", seed) for name in equal for seed in range(seeds)} <= students
        assert {(objective, "XL", "x4", "tiny", seed) for seed in range(3)} <= students
        second = {teacher for name, teacher, _, reader, _ in students if (name, reader) == (objective, "second")}
        assert {study.teachers[name].get("strength", name) for name in second} >= {"S", "L", "X"}
    assert {"alone", "lifted", "reader", "caption"} <= {objective for objective, *_ in students}
    assert study.base_objective == "clip_kd" and study.objectives["lifted"] == study.objectives["dense"]
    assert Forecast(study.processes).left(plan.stages) <= 6 * 3600
    # The report takes the first objective without a teacher for the student alone.
    assert next(cell.objective for cell in plan.cells if cell.teacher is None) == "alone"


def test_the_ablation_compares_every_loss(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = load(CONFIGS / "ablation.yaml")
    objectives = {cell.objective for cell in plan.cells}
    towers_alone = {"eupe", "am_radio", "lightly"}
    assert objectives == every_objective().keys() | {f"clip+{name}" for name in towers_alone}
    assert {cell.seed for cell in plan.cells} == {0, 1, 2} and len(plan.cells) == 3 * len(objectives)
    students = {cell.objective: measured.training.arguments for cell, measured in plan.cells.items()}
    assert students["clip+gd"]["losses"] == {"clip": 1.0, "gd": 0.16}
    shown = {name for name, arguments in students.items() if "synthetic_text_column" in arguments}
    assert shown == {"reinforced", "clip+reinforced", "mobileclip"}
    assert {(arguments["max_steps"], arguments["warmup_steps"]) for arguments in students.values()} == {(225, 20)}
    assert plan.cells[next(iter(plan.cells))].vqa is None


def test_the_study_of_pictures_has_what_it_asks_for(monkeypatch):
    """Three strengths of one teacher, a vision teacher, three seeds, and each length with a student alone."""
    monkeypatch.chdir(ROOT)
    plan = load(CONFIGS / "pictures.yaml")
    arguments = {cell: measured.training.arguments for cell, measured in plan.cells.items()}
    steps = {cell.duration: arguments[cell]["max_steps"] for cell in plan.cells}
    assert steps == {"x1": 300, "x4": 1200, "x16": 4800}
    seeds = {}
    for cell in plan.cells:
        seeds.setdefault((cell.teacher, cell.objective, cell.duration), []).append(cell.seed)
    assert all(found == [0, 1, 2] for found in seeds.values())
    alone = {(None, "alone", duration) for duration in steps}
    strongest = {("L", "clip_kd", duration) for duration in steps} | {("L", "tokens", "x1"), ("L", "tokens", "x4")}
    others = {(teacher, objective, "x4") for teacher in "SM" for objective in ("clip_kd", "tokens")}
    assert set(seeds) == alone | strongest | others | {("vision", "vision_tokens", "x4")}
    trained = {name: tower.training.arguments for (name, _), tower in plan.teachers.items() if tower.training}
    assert [trained[name].pop("max_steps") for name in "SM"] == [150, 500] and trained["S"] == trained["M"]
    # The page has trained the third.
    recipe = yaml.safe_load((CONFIGS.parent / "distill/pictures_teacher.yaml").read_text())
    assert recipe["max_steps"] == 1500 and plan.study.teachers["L"] == {"model": recipe["output_dir"]}
    assert all(trained["S"][key] == recipe[key] for key in ("losses", "learning_rate", "seed", "data_dir"))
    # All of one length differ in teacher and losses alone: they see the same crops in the same order.
    caches = [stage.arguments for stage in plan.stages if stage.kind == "cache"]
    settings = [{key: cache[key] for key in ("seed", "augmentations", "crop_scale", "data_dir")} for cache in caches]
    assert len(caches) == 4 and all(cache == settings[0] for cache in settings)
    own = ("losses", "teacher_model_name_or_path", "teacher_cache")
    rest = {
        (cell.duration, cell.seed, str({key: value for key, value in told.items() if key not in own}))
        for cell, told in arguments.items()
    }
    assert all("teacher_cache" in told for told in arguments.values()) and len(rest) == len(steps) * 3


PICTURES = sorted((ROOT / "recipes/configs").glob("*/pictures*.yaml"))


@pytest.mark.parametrize("script", ["distill", "cache_teacher"])
def test_the_yamls_of_the_pictures_agree(script):
    """Each YAML is read alone, so the parts that must be equal stand in each."""
    files = [yaml.safe_load(path.read_text()) for path in PICTURES if path.parent.name == script]
    assert len(files) >= 2
    held_out = yaml.safe_load((ROOT / "recipes/configs/evaluate/pictures.yaml").read_text())["evaluation"]
    shared = {
        "distill": ("dataset_name", "data_dir", "crop_scale", "per_device_train_batch_size", "learning_rate"),
        "cache_teacher": ("dataset_name", "data_dir", "crop_scale", "augmentations", "seed"),
    }[script]
    assert all({key: file[key] for key in shared} == {key: files[0][key] for key in shared} for file in files)
    if script == "distill":
        assert set(held_out) == {"style", "unseen", "category", "retrieval", "photographs"}
        assert all(file["evaluation"] == held_out for file in files)
        students = [file for file in files if file["model_name_or_path"] == "pictures-vit-t"]
        assert len(students) == 4 and all(file["max_steps"] == 1200 and "teacher_cache" in file for file in students)
    # Captions say "left" and "right".
    assert all("flip" not in file for file in files)


def test_the_paper_is_complete():
    study = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
    assert set(study["teachers"]) == {"clip_kd", "openai", "laion", "dfn", "metaclip", "siglip", "siglip2", "eva_clip"}
    assert study["students"] == {"vit-t16": "ViT-T-16"} and "Qwen/Qwen2-0.5B" in study["language_models"].values()
    assert set(yaml.safe_load((CONFIGS / study["vqa"]).read_text())["evaluation"]) == BENCHMARKS
    further = [yaml.safe_load((CONFIGS / path).read_text())["evaluation"] for path in study["vqa_tables"].values()]
    assert [set(names) for names in further] == [VISION_CENTRIC, DOCUMENTS]
    towers = {name: kd.load_clip(name)[0] for name in ("ViT-T-16", str(CONFIGS / "paper/ViT-B-16.json"))}
    sizes = [round(sum(p.numel() for p in model.vision_model.parameters()) / 1e6, 1) for model in towers.values()]
    assert sizes == [5.5, 85.8]  # The paper has the same sizes.
    student = yaml.safe_load((CONFIGS / study["distill"]).read_text())
    pairs = sum(source["weight"] for source in study["data"]["cc15m"]["datasets"]) * 1e6
    assert student["max_steps"] == student["num_train_epochs"] * pairs / 1024


def test_the_paper_has_a_weight_for_every_width_beside_the_published_one():
    study = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
    assert study["objectives"]["clip_kd_fd4"] == study["objectives"]["clip_kd"] | {"fd": 4.0}
    whole = [block for block in study["cells"] if set(block["teacher"] or ()) == set(study["teachers"])]
    assert [block.get("objective") for block in whole] == [None, "clip_kd_fd4"]


def test_defects_are_compared_on_teachers_that_differ_in_width_alone(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = load(CONFIGS / "defects.yaml")
    dims = {name: teacher_of(preset).dims.embed_dim for name, preset in presets_of(plan).items()}
    student = kd.load_clip("shapes-vit-t")[0]
    assert dims == {"narrow": kd.CLIPDims.of(student).embed_dim, "wide": 4 * dims["narrow"]}
    conditions = {(cell.objective, cell.data) for cell in plan.cells if cell.teacher is not None}
    both = {(name, data) for name, data in conditions if len(teachers(plan, name, data)) == 2}
    assert both == conditions and {data for _, data in conditions} == {"plain", "independent_crops"}
    found = {name: defects(losses) for name, losses in plan.study.objectives.items()}
    assert found["sound"] == [] and len(found["published"]) == 2
    assert all("frozen_heads" in text for text in found["frozen_heads"])
    seconds = sum(stage.seconds for stage in plan.stages) / plan.study.processes
    assert seconds < 3 * 3600


def presets_of(plan):
    return {name: tower.training.arguments["model_name_or_path"] for (name, _), tower in plan.teachers.items()}


def teachers(plan, objective, data):
    return {cell.teacher for cell in plan.cells if (cell.objective, cell.data) == (objective, data)}


def test_every_evaluation_is_built(plan):
    """The data is a few rows with the real columns, loaded with arguments that `load_image_text` accepts."""
    options = {*inspect.signature(kd.load_image_text).parameters, "name", "revision", "seed", "vqa"}
    rows = {
        "image": [{"bytes": bytes([i]), "path": None} for i in range(2)],
        "text": ["0", "1"],
        "question": ["what?", "who?"],
        "answers": [["a", "b"], ["c"]],
    }
    features = Features(
        {
            "image": Image(decode=False),
            "text": Value("string"),
            "question": Value("string"),
            "answers": List(Value("string")),
        }
    )

    def load(dataset_name, *, text_column, **data):
        assert set(data) <= options
        if dataset_name == "shapes":
            return load_shapes(data["split"], size=12, vqa=data.get("vqa", False))
        return Dataset.from_dict(rows, features)

    evaluations = {str(stage.arguments["evaluation"]): stage for stage in plan.stages if stage.kind == "evaluate"}
    for stage in evaluations.values():
        evaluation = with_class_names(stage.arguments["evaluation"])
        assert [part.name for part in build_evaluator(evaluation, load).evaluators] == list(evaluation)
