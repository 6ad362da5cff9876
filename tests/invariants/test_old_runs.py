"""Files of commit 465c5d1 are read, or refused in a sentence. Those of later versions are refused."""

import io
import json
import shutil
from pathlib import Path

import llava_runs
import pytest
import torch
from cache_world import dataset
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from teacher_models import tiny_clip
from transformers import AutoModel
from vlm_parts import image_processor, language_model

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.checked_tensors import CHECKSUM
from hf_clip_kd.recipe_io.format_version import CURRENT, NAME
from hf_clip_kd.recipe_io.results import load_results
from hf_clip_kd.study.cards import collect_students
from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.training.checkpoint_files import MARK, last_complete
from hf_clip_kd.vlm import FeatureCache, build_llava

OLD = Path(__file__).parents[1] / "old_runs"
ROWS = [i for i in range(22) if i != 7 and i % 4 != 1]  # Pictures without transparency are those of that commit.


def test_no_file_of_old_names_a_version():
    files = [path for path in OLD.rglob("*.json") if path.name in ("cache.json", MARK, "study.json")]
    assert len(files) == 4 and not any(NAME in json.loads(path.read_text()) for path in files)


def test_a_cache():
    cache = kd.TeacherCache(OLD / "cache", checksums="open")
    stored = [load_file(path) for path in sorted((OLD / "cache").glob("shard-*"))]
    ids, images = (torch.cat([shard[name] for shard in stored]) for name in ("ids", "0.image_embeds"))
    assert len(cache) == len(ids) == 5
    for number, values in zip(ids.tolist(), images, strict=True):
        found = cache.images([cache.find(number)], [1])["teacher_0_image_embeds"]
        assert torch.equal(found[0], values[1])
    assert not any(dropped for *_, dropped in cache.crops(range(5), [0] * 5))


def test_a_feature_cache():
    tower = AutoModel.from_pretrained(OLD / "run/checkpoint-2").vision_model
    causal, tokenizer = language_model("qwen2")
    processor = image_processor(tower.config.image_size)
    llava = build_llava(tower, causal, tokenizer=tokenizer, image_processor=processor, vision_feature_layer=-2)
    (path,) = (OLD / "features").glob("features-*.safetensors")
    with safe_open(path, framework="pt") as file:
        assert not {NAME, CHECKSUM} & file.metadata().keys()
    features, cache = load_file(path)["features"], FeatureCache(OLD / "features", *llava)
    assert len(cache) == len(features) == 3
    for row, colour in enumerate(("red", "green", "blue")):
        file = io.BytesIO()
        Image.new("RGB", (12, 9), colour).save(file, "PPM")
        assert torch.equal(cache({"bytes": file.getvalue(), "path": None}), features[row])


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD / "run", tmp_path / "run")


def trainer(run, steps=4):
    _, processor = tiny_clip()
    processor.image_processor.size = processor.image_processor.crop_size = {"height": 8, "width": 8}
    args = kd.DistillationTrainingArguments(
        str(run),
        losses={"clip": 1.0},
        per_device_train_batch_size=4,
        max_steps=steps,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    student = AutoModel.from_config(AutoModel.from_pretrained(OLD / "run/checkpoint-2").config)
    return kd.DistillationTrainer(
        student,
        args,
        train_dataset=dataset().select(ROWS),
        data_collator=kd.CLIPDataCollator(processor),
        processing_class=processor,
    )


def test_a_checkpoint(run):
    resumed = trainer(run)
    resumed.train(resume_from_checkpoint="auto")
    assert resumed.state.global_step == 4 and [entry["step"] for entry in resumed.state.log_history] == [1, 2, 3, 4, 4]
    mark = json.loads((run / "checkpoint-4" / MARK).read_text())
    assert mark[NAME] == CURRENT["checkpoint"]


def test_a_checkpoint_of_a_llava(tmp_path):
    """It goes on to the losses that the same commit had without a stop."""
    run = shutil.copytree(OLD / "llava", tmp_path / "llava")
    whole = [json.loads(line) for line in (run / "whole.jsonl").read_text().splitlines()]
    expected = [entry["loss"] for entry in whole if "loss" in entry]
    saving = {"save_strategy": "steps", "save_steps": 2}
    resumed = llava_runs.make_trainer(run, *llava_runs.make_model(), lora={"r": 4}, **saving)
    resumed.train(resume_from_checkpoint="auto")
    assert len(expected) == 4 and llava_runs.losses(resumed) == pytest.approx(expected, rel=1e-5)
    mark = json.loads((run / "checkpoint-4" / MARK).read_text())
    assert mark[NAME] == CURRENT["checkpoint"]


def test_results():
    (result,) = load_results(OLD / "results")
    assert result["metrics"]["acc1"] > 0 and NAME not in result


def test_a_study(tmp_path):
    study = read_study(OLD / "study")
    assert len(study.cells) == 2 and study.meter.of(study.cells[0]) is not None
    configs = OLD.parents[1] / "recipes/configs/study"
    with pytest.raises(
        ValueError, match="has not ended.*study.json is of the format version 1. Run `recipes/study.py`"
    ):
        collect_students(OLD / "study", configs, tmp_path / "cards")  # This version names the stages otherwise.
    record = json.loads((OLD / "study/study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(record | {"config": record["config"] | {"gone": 1}}))
    with pytest.raises(ValueError, match="study.json: its `config` is that of another version.*Run the study again"):
        collect_students(tmp_path, configs, tmp_path / "cards")


@pytest.mark.parametrize(
    ("kind", "file", "read"),
    [
        ("teacher cache", "cache/cache.json", lambda folder: kd.TeacherCache(folder / "cache")),
        ("checkpoint", f"run/checkpoint-2/{MARK}", lambda folder: last_complete(folder / "run")),
        ("result", "results/*.json", lambda folder: load_results(folder / "results")),
        ("study", "study/study.json", lambda folder: read_study(folder / "study")),
        ("study", "study/study.json", lambda folder: collect_students(folder / "study", folder, folder)),
    ],
)
def test_a_later_version_is_refused_and_nothing_is_moved(kind, file, read, tmp_path):
    folder = shutil.copytree(OLD, tmp_path / "old")
    (path,) = folder.glob(file)
    path.write_text(json.dumps(json.loads(path.read_text()) | {NAME: CURRENT[kind] + 1}))
    before = sorted(folder.rglob("*"))
    told = rf"{path.name}: it is a {kind} of the format version {CURRENT[kind] + 1}\b.*pip install -U"
    with pytest.raises(ValueError, match=told):
        read(folder)
    assert sorted(folder.rglob("*")) == before
