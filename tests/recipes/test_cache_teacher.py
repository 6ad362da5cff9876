"""recipes/cache_teacher.py, and recipes/distill.py with what it wrote."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file
from teacher_models import tiny_clip

import hf_clip_kd as kd
from recipes import cache_teacher, distill

ROOT = Path(__file__).parents[2]
DATA = ["--dataset_name", "shapes", "--max_train_samples", "48"]
STEPS = ["--max_steps", "6", "--logging_steps", "1", "--per_device_train_batch_size", "8", "--evaluation", "null"]


def save_teacher(folder, kind="shapes-conv"):
    model, processor = kd.load_clip(kind) if isinstance(kind, str) else kind()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def cache(folder, teacher, *flags):
    teacher = teacher if isinstance(teacher, str) else json.dumps(teacher)
    return cache_teacher.main(
        ["--teacher_model_name_or_path", teacher, "--output_dir", str(folder), *DATA, "--shard_size", "32", *flags]
    )


def distil(folder, *flags):
    flags = ["--output_dir", str(folder), *DATA, *STEPS, "--teacher_recipe", "null", "--seed", "42", *flags]
    distill.main(flags)
    return folder


def losses(folder):
    state = json.loads((folder / "checkpoint-6/trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_cache_then_distil(tmp_path):
    teacher = save_teacher(tmp_path / "teacher")
    crops = ["--crop_scale", "[0.5, 1.0]", "--flip", "0.5", "--color_jitter", "[0.4, 0.4, 0.4, 0.1]"]
    written = cache(tmp_path / "cache", teacher, *crops, "--augmentations", "1", "--dtype", "float32")
    assert len(written) == 48
    run = ["--teacher_model_name_or_path", teacher, "--save_strategy", "steps", "--save_steps", "6", *crops]
    cached = [*run, "--teacher_cache", str(tmp_path / "cache")]
    online = losses(distil(tmp_path / "online", *run))
    assert losses(distil(tmp_path / "cached", *cached)) == pytest.approx(online, rel=1e-4) and len(online) == 6

    # The next run has no weights of the teacher.
    alone = ["--teacher_model_name_or_path", "null", *cached[2:]]
    assert losses(distil(tmp_path / "alone", *alone)) == pytest.approx(online, rel=1e-4)

    with pytest.raises(ValueError, match="settings.flip is 0.5 in the cache, 0.0 here"):
        distil(tmp_path / "refused", *cached, "--flip", "0")
    with pytest.raises(ValueError, match=r"teachers\[0\].weights"):
        other = save_teacher(tmp_path / "other")
        distil(tmp_path / "refused", *cached, "--teacher_model_name_or_path", other)
    with pytest.raises(ValueError, match="belongs to other data"):
        distil(tmp_path / "refused", *cached, "--split", "validation")
    with pytest.raises(ValueError, match="dataset.rows is 48 in the cache, 40 here"):
        cache(
            tmp_path / "cache",
            teacher,
            *crops,
            "--dtype",
            "float32",
            "--max_train_samples",
            "40",
            "--augmentations",
            "1",
        )


def test_two_teachers_and_generated_captions(tmp_path):
    teachers = [save_teacher(tmp_path / "a"), {"name": save_teacher(tmp_path / "b", tiny_clip), "weight": 3}]
    both = ["--synthetic_text_column", "synthetic_text", "--losses", "mobileclip"]
    written = cache(tmp_path / "cache", teachers, *both, "--verify")
    assert [dims.embed_dim for dims in written.dims.members] == [written.dims.embed_dim, 24]
    names = ["--teacher_model_name_or_path", json.dumps(teachers), "--teacher_cache", str(tmp_path / "cache")]
    distil(tmp_path / "student", *both, *names, "--save_strategy", "no")
    assert (tmp_path / "student/model.safetensors").is_file()


def test_channels_last(tmp_path, monkeypatch):
    teacher, seen = save_teacher(tmp_path / "teacher", "test-resnet"), []
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda conv, x: seen.append(conv.weight) or forward(conv, x))
    features, manifests = [], []
    for channels_last in (False, True):
        folder = tmp_path / str(channels_last)
        cache(folder, teacher, "--channels_last", str(channels_last), "--dtype", "float32")
        kernels = [x for x in seen if x.shape[1] > 1 and x.shape[2] > 1]
        assert {x.is_contiguous(memory_format=torch.channels_last) for x in kernels} == {channels_last}
        seen.clear()
        features.append(load_file(folder / "shard-000000.safetensors")["0.image_embeds"])
        manifests.append((folder / "cache.json").read_text())
    assert manifests[0] == manifests[1]
    assert torch.allclose(*features, rtol=1e-4, atol=1e-5)


def test_several_sources_are_one_cache(tmp_path):
    sources = [{"dataset_name": "shapes", "split": split, "max_samples": 20} for split in ("train", "test")]
    teacher = save_teacher(tmp_path / "teacher")
    written = cache(tmp_path / "cache", teacher, "--datasets", json.dumps(sources))
    assert len(written) == 40
    names = ["--teacher_model_name_or_path", teacher, "--teacher_cache", str(tmp_path / "cache")]
    mixed = [source | {"weight": weight} for source, weight in zip(sources, (1, 2), strict=True)]
    distil(
        tmp_path / "student",
        *names,
        "--datasets",
        json.dumps(mixed),
        "--save_strategy",
        "no",
    )


def test_the_demo_reads_the_cache_that_is_written_for_it():
    configs = ROOT / "recipes/configs"
    written, read, online = (
        yaml.safe_load((configs / name).read_text())
        for name in ("cache_teacher/demo.yaml", "distill/demo_cached.yaml", "distill/demo.yaml")
    )
    assert read["teacher_cache"] == written["output_dir"]
    assert {key: read[key] for key in online if key != "output_dir"} == {
        key: value for key, value in online.items() if key != "output_dir"
    }
    for key in ("teacher_model_name_or_path", "dataset_name", "max_train_samples", "crop_scale"):
        assert written[key] == read[key]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    teacher = save_teacher(tmp_path / "teacher")
    cache(tmp_path / "one", teacher)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]
    flags = [
        "--teacher_model_name_or_path",
        teacher,
        "--output_dir",
        str(tmp_path / "two"),
        *DATA,
        "--shard_size",
        "32",
    ]
    subprocess.run(
        [*launch, str(ROOT / "recipes/cache_teacher.py"), *flags],
        check=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    found, other = (
        {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).iterdir()
            if path.name != "recipe.yaml"
        }
        for name in ("one", "two")
    )
    assert found == other and len(found) == 4


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"patch": 1.0}, r"reader_top_k=8.* name \[\]\. They must name the same ones, and at least one"),
        ({"reader": {"reader": "a"}, "patch": 1.0}, "in the place of the teacher's tokens.*Leave `reader_top_k` out"),
        ([{"reader": {"reader": "a"}}, {"reader": {"reader": "b"}}], "They must name the same ones"),
    ],
    ids=["no reader", "tokens, too", "two readers"],
)
def test_answers_in_the_place_of_tokens_serve_readers_alone(losses, message):
    args = SimpleNamespace(losses=losses, reader_top_k=8)
    with pytest.raises(ValueError, match=message):
        cache_teacher.load_answering(args, None)


@pytest.mark.slow
def test_tokens_of_a_vision_teacher_from_a_file_of_weights(tmp_path):
    """The token objective learns from the cache of a convnet that reads no text."""
    trunk = timm.create_model("test_efficientnet")
    save_file(trunk.state_dict(), tmp_path / "weights.safetensors")
    teacher = f"timm:test_efficientnet/{tmp_path}/weights.safetensors"
    objective = ["--losses", '{"clip": 1.0, "patch": {"weight": 40.0, "teacher_layer": -2}}']
    written = cache(tmp_path / "cache", teacher, *objective, "--augmentations", "2", "--crop_scale", "[0.6, 1.0]")
    assert len(written) == 48
    run = ["--teacher_model_name_or_path", teacher, "--teacher_cache", str(tmp_path / "cache"), *objective]
    run += ["--crop_scale", "[0.6, 1.0]", "--save_strategy", "steps", "--save_steps", "6"]
    folder = distil(tmp_path / "student", *run)
    state = json.loads((folder / "checkpoint-6/trainer_state.json").read_text())
    parts = [entry["loss/patch"] for entry in state["log_history"] if "loss/patch" in entry]
    assert len(parts) == 6 and parts[-1] < parts[0]
