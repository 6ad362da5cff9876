"""`--push_to_hub` of trainers and recipes: what is on the Hub and on disk, whether the push works or fails."""

import json
import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from llava_runs import make_model
from llava_runs import make_trainer as make_llava_trainer
from miniature import STEPS, best_of, make_trainer
from safetensors.torch import load, load_file

import hf_clip_kd as kd
import hf_clip_kd.training.pushing
from hf_clip_kd.hub.push import PushError
from recipes import cache_teacher, distill, evaluate, prime_lm, push, train_vlm

ROOT = Path(__file__).parents[2]
READER = "hf_" + "r" * 34
EVERY_STEP = {"save_strategy": "steps", "save_steps": 1}


def finish(error):
    """Run the command that a message ends with."""
    push.main(shlex.split(str(error).split("Then finish it with: python recipes/push.py ")[1]))


def pushing(folder, **settings):
    return make_trainer(folder, **{"push_to_hub": True, "hub_model_id": "me/student", **settings})


def weights(hub, repo, commit):
    return load(hub.repos["model", repo].commits[commit].files["model.safetensors"].data)


# ---- Trainers ----


def test_end_of_training_is_one_commit(hub, tmp_path):
    trainer = pushing(tmp_path / "run", hub_strategy="end", hub_revision="next", hub_private_repo=True, **EVERY_STEP)
    trainer.train()
    trainer.save_model()
    assert hub.titles("me/student", "next") == []
    assert trainer.push_to_hub("Done") == f"{hub.url}/me/student/tree/next"
    assert hub.titles("me/student", "next") == ["Done"] and hub.titles("me/student", "main") == []
    assert hub.repos["model", "me/student"].private
    names = set(hub.files("me/student", "next"))
    assert {"config.json", "model.safetensors", "README.md"} < names
    assert not [name for name in names if name.startswith("checkpoint") or name.endswith((".bin", ".pt"))]


def test_without_the_flag_nothing_is_pushed_until_asked(hub, tmp_path):
    trainer = make_trainer(tmp_path / "student", **EVERY_STEP)
    trainer.train()
    assert hub.log == []
    assert trainer.push_to_hub() == f"{hub.url}/me/student"
    assert hub.titles("me/student") == ["End of training"]


def test_the_arguments_of_the_stock_trainer(hub, tmp_path, caplog):
    """Those that the example scripts of transformers pass, and its own."""
    trainer = make_trainer(tmp_path / "student", hub_model_id="me/student", hub_token="hf_wrong")
    trainer.save_model()
    given = {
        "finetuned_from": "me/start",
        "tasks": "zero-shot-image-classification",
        "language": "en",
        "tags": ["clip"],
    }
    pushed = trainer.push_to_hub(
        blocking=False, token=hub.token, revision="next", private=True, model_name="Mine", dataset="me/pairs", **given
    )
    assert pushed.result() == f"{hub.url}/me/student/tree/next"
    assert hub.repos["model", "me/student"].private and hub.titles("me/student", "next") == ["End of training"]
    card = hub.files("me/student", "next")["README.md"].decode()
    assert "# Mine" in card and "me/start" in card and "- me/pairs" in card
    assert (trainer.args.hub_token, trainer.args.hub_revision) == ("hf_wrong", None)
    with pytest.raises(PushError):
        trainer.push_to_hub(blocking=False).result()
    assert "The run is not on the Hub" in caplog.text


@pytest.mark.parametrize("make", ["student", "llava"])
def test_every_save_pushes_each_checkpoint_whole(hub, tmp_path, make):
    # Slow uploads, and each save deletes the checkpoint before: no push may read a file that changes or goes.
    hub.fail("PUT", "/lfs/", delay=0.3, times=99)
    settings = EVERY_STEP | {"save_total_limit": 1, "push_to_hub": True, "hub_model_id": "me/student"}
    if make == "student":
        trainer = make_trainer(tmp_path, **settings)
    else:
        trainer = make_llava_trainer(tmp_path, *make_model(), **settings)
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    seen = []
    start = trainer.pushing.start

    def remember(folder, step):
        seen.append(load_file(folder / "model.safetensors"))
        start(folder, step)

    trainer.pushing.start = remember
    trainer.train()
    trainer.push_to_hub()
    steps = trainer.state.global_step
    titles = [f"Training in progress, step {step}" for step in range(1, steps + 1)]
    # The end brings nothing that the last checkpoint had not, so there is no commit of it.
    assert hub.titles("me/student") == titles[::-1]
    history = hub.repos["model", "me/student"].history()[:-1]
    for commit, saved in zip(history, reversed(seen), strict=True):
        assert {"config.json", "README.md", "recipe.yaml"} <= set(commit.files)
        assert not {"checkpoint.json", "trainer_state.json", "losses.safetensors"} & set(commit.files)
        pushed = weights(hub, "me/student", commit.oid)
        assert all(torch.equal(pushed[name], tensor) for name, tensor in saved.items()) and set(pushed) == set(saved)


def test_a_checkpoint_stays_until_it_is_pushed(hub, tmp_path, monkeypatch):
    """Only the best one is left in the end, and the push of the last may still read its files."""
    there = []

    def slow(args, folder, message):
        time.sleep(0.5)
        there.append((folder.name, (folder / "model.safetensors").is_file()))

    monkeypatch.setattr(hf_clip_kd.training.pushing, "_push_checkpoint", slow)
    trainer = pushing(tmp_path / "run", save_total_limit=1, max_steps=2, **best_of(1.0, 0.0))
    trainer.train()
    assert there == [("checkpoint-1", True), ("checkpoint-2", True)]
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]


def test_a_checkpoint_that_is_not_pushed_is_a_warning_and_the_end_raises(hub, tmp_path, caplog):
    hub.fail("POST", "/commit/", status=403, message="no more rights", times=99)
    trainer = pushing(tmp_path, **EVERY_STEP)
    trainer.train()
    assert trainer.state.global_step == STEPS
    warnings = [record.getMessage() for record in caplog.records if "is not on the Hub" in record.getMessage()]
    assert len(warnings) == STEPS
    for step, warning in enumerate(warnings, 1):
        assert "no more rights" in warning and f"recipes/push.py {tmp_path}/checkpoint-{step} me/student" in warning
    before = {name: tensor.clone() for name, tensor in trainer.student.state_dict().items()}
    with pytest.raises(PushError, match="no more rights") as error:
        trainer.push_to_hub()
    assert hub.titles("me/student") == []
    hub.failures.clear()
    finish(warnings[0])
    finish(error.value)
    assert len(hub.titles("me/student")) == 2
    pushed = load(hub.files("me/student")["model.safetensors"])
    assert all(torch.equal(pushed[name], before[name]) for name in pushed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hub_model_id": "somebody/student"}, "don't have the rights"),
        ({"hub_token": READER, "hub_model_id": "me/other"}, "don't have the rights"),
        ({"hub_token": "hf_wrong"}, "Invalid user token"),
        ({"hub_strategy": "checkpoint"}, "`hub_strategy=checkpoint` would push the optimizer's state"),
        ({"hub_strategy": "all_checkpoints"}, "every_save"),
    ],
)
def test_a_trainer_that_cannot_push_is_not_made(hub, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        pushing(tmp_path, **settings)


def test_adapters_are_not_pushed_as_a_model(tmp_path):
    with pytest.raises(ValueError, match="`hub_strategy=every_save` with `lora`.*--hub_strategy end"):
        kd.LlavaTrainingArguments(str(tmp_path), lora={"r": 4}, push_to_hub=True)


def test_a_token_by_argument_stays_in_memory(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("HF_TOKEN")
    caplog.set_level(logging.DEBUG)
    trainer = pushing(tmp_path, hub_token=hub.token, **EVERY_STEP)
    trainer.train()
    trainer.push_to_hub()
    assert len(hub.titles("me/student")) == STEPS
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if hub.token.encode() in path.read_bytes()]
    assert hub.token not in caplog.text + repr(trainer.args)
    assert hub.token not in repr(kd.LlavaTrainingArguments(str(tmp_path), hub_token=hub.token))


# ---- recipes/distill.py ----

QUICK = [
    "--dataset_name",
    "shapes",
    "--max_train_samples",
    "32",
    "--per_device_train_batch_size",
    "8",
    "--use_cpu",
    "true",
]
QUICK += ["--max_steps", "2", "--save_strategy", "no", "--report_to", "none", "--teacher_recipe", "null"]
SCORES = {"zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 40}}


def distil(folder, *flags, evaluation=SCORES):
    flags = [*QUICK, "--model_name_or_path", "test-vit", "--evaluation", json.dumps(evaluation), *flags]
    alone = ["--teacher_model_name_or_path", "null", "--losses", "clip", "--seed", "1"]
    return distill.main(["--output_dir", str(folder), *alone, *flags])


def test_distill_pushes_model_processor_card_scores_and_recipe_in_one_commit(hub, tmp_path, wipe_cache, capsys):
    folder = tmp_path / "student"
    scores = distil(folder, "--push_to_hub", "true", "--hub_private_repo", "true")
    assert f"On the Hub: {hub.url}/me/student" in capsys.readouterr().out
    assert hub.titles("me/student") == ["End of training"] and hub.repos["model", "me/student"].private
    files = hub.files("me/student")
    results = [json.loads(data) for name, data in files.items() if name.startswith("results/")]
    assert len(results) == 1 and results[0]["metrics"]["acc1"] == scores["acc1"]
    assert yaml.safe_load(files["recipe.yaml"])["max_steps"] == 2
    card = files["README.md"].decode()
    assert "me/student" in card and "model-index" in card and f"{100 * scores['acc1']:.1f}" in card
    assert not [name for name in files if name.endswith((".bin", ".pt")) or name == "losses.safetensors"]
    wipe_cache()
    there, processor = kd.load_clip("me/student")
    here, _ = kd.load_clip(str(folder))
    assert all(torch.equal(there.state_dict()[name], tensor) for name, tensor in here.state_dict().items())
    assert processor(text=["a dog"])["input_ids"]


def test_distill_asks_for_the_rights_before_it_trains_a_teacher(hub, tmp_path):
    teacher = ["--teacher_model_name_or_path", str(tmp_path / "teacher"), "--teacher_recipe", "demo_teacher.yaml"]
    with pytest.raises(ValueError, match="Nothing can be pushed to 'somebody/student'"):
        distil(tmp_path / "student", *teacher, "--push_to_hub", "true", "--hub_model_id", "somebody/student")
    assert list(tmp_path.iterdir()) == []


def test_a_token_among_the_arguments_is_told_before(hub, tmp_path):
    data = [{"dataset_name": "shapes", "token": hub.token}]
    with pytest.raises(ValueError, match="An argument of this run holds a token") as error:
        distil(tmp_path / "student", "--push_to_hub", "true", "--datasets", json.dumps(data))
    assert hub.token not in str(error.value) and list(tmp_path.iterdir()) == []


def test_distill_that_fails_at_the_end_is_finished_by_its_command(hub, tmp_path):
    hub.fail("PUT", "/lfs/", cut_request=1000, times=99)
    folder = tmp_path / "student"
    with pytest.raises(PushError, match="Error while uploading") as error:
        distil(folder, "--push_to_hub", "true", "--hub_revision", "next")
    assert {"config.json", "model.safetensors", "README.md", "recipe.yaml", "results", "tokenizer.json"} <= set(
        os.listdir(folder)
    )
    assert hub.titles("me/student", "next") == []
    hub.failures.clear()
    finish(error.value)
    assert hub.titles("me/student", "next") == ["Upload"]
    assert {"model.safetensors", "recipe.yaml", "README.md"} < set(hub.files("me/student", "next"))


@pytest.mark.slow
def test_distill_in_its_own_process_says_it_in_one_line(hub, tmp_path):
    hub.fail("POST", "/commit/", status=500)
    flags = [
        "--output_dir",
        str(tmp_path / "student"),
        *QUICK,
        "--model_name_or_path",
        "test-vit",
        "--evaluation",
        "null",
    ]
    flags += ["--teacher_model_name_or_path", "null", "--losses", "clip", "--push_to_hub", "true"]
    command = [sys.executable, str(ROOT / "recipes/distill.py"), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: The push of") and last.endswith(
        f"python recipes/push.py {tmp_path}/student me/student"
    )
    assert hub.token not in done.stderr + done.stdout


# ---- recipes/train_vlm.py ----


def test_train_vlm_pushes_one_llava(hub, tmp_path):
    common = {"max_train_samples": 32, "max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True}
    common |= {"report_to": "none", "save_strategy": "no"}
    prime = {"hidden_size": 32, "num_attention_heads": 2, "max_test_samples": 16, "output_dir": str(tmp_path / "lm")}
    (tmp_path / "lm.yaml").write_text(yaml.safe_dump(prime | common))
    prime_lm.main(["--config", str(tmp_path / "lm.yaml")])
    settings = {"vision_tower": "shapes-vit-t", "language_model": str(tmp_path / "lm"), "dataset_name": "shapes"}
    settings |= {"evaluation": {"shapes": {"split": "test", "max_samples": 16}}, "output_dir": str(tmp_path / "vlm")}
    settings |= {"push_to_hub": True, "hub_model_id": "lab/vlm"}
    (tmp_path / "vlm.yaml").write_text(yaml.safe_dump(settings | common))
    train_vlm.main(["--config", str(tmp_path / "vlm.yaml")])
    assert hub.titles("lab/vlm") == ["End of training"]
    files = hub.files("lab/vlm")
    assert {"config.json", "model.safetensors", "recipe.yaml", "README.md", "processor_config.json"} < set(files)
    assert [name for name in files if name.startswith("results/")] and not [n for n in files if "samples" in n]
    assert "lab/vlm" in files["README.md"].decode()

    (tmp_path / "vlm.yaml").write_text(yaml.safe_dump(settings | common | {"beside": {"blind": None}}))
    with pytest.raises(ValueError, match="`push_to_hub` with `beside`, which trains 2 models"):
        train_vlm.main(["--config", str(tmp_path / "vlm.yaml")])


# ---- recipes/evaluate.py ----


@pytest.fixture
def student(tmp_path):
    model, processor = kd.load_clip("test-vit")
    model.save_pretrained(tmp_path / "student")
    processor.save_pretrained(tmp_path / "student")
    (tmp_path / "student/recipe.yaml").write_text("dataset_name: shapes\n")
    return tmp_path / "student"


def score(name, tmp_path, *flags):
    (tmp_path / "empty.yaml").write_text("")
    flags = ["--evaluation", json.dumps(SCORES), "--output_dir", str(tmp_path / "scores"), *flags]
    model = name if isinstance(name, str) else json.dumps(name)
    return evaluate.main(["--config", str(tmp_path / "empty.yaml"), "--model_name_or_path", model, *flags])


def test_evaluate_pushes_the_scores_of_a_folder_and_then_of_its_repository(hub, student, tmp_path, wipe_cache):
    rows = score(str(student), tmp_path, "--push_to_hub", "true", "--hub_model_id", "me/student")
    scores = rows[str(student)]
    assert hub.titles("me/student") == ["Scores"]
    files = hub.files("me/student")
    assert "model.safetensors" in files and [name for name in files if name.startswith("results/")]
    assert f"{100 * scores['acc1']:.1f}" in files["README.md"].decode()

    wipe_cache()
    sent = len(hub.calls("PUT", "/lfs/"))
    assert score("me/student", tmp_path, "--push_to_hub", "true")["me/student"] == pytest.approx(scores)
    assert hub.titles("me/student") == ["Scores", "Scores"] and len(hub.calls("PUT", "/lfs/")) == sent
    assert set(files) < set(hub.files("me/student"))


def test_evaluate_refuses_what_it_could_not_push(hub, tmp_path):
    hub.seed("somebody/model", {"config.json": b"{}"})
    for name in (["me/a", "me/b"], "open_clip:RN50/openai"):
        with pytest.raises(ValueError, match="It may be one folder or Hub id"):
            score(name, tmp_path, "--push_to_hub", "true")
    with pytest.raises(ValueError, match="Nothing can be pushed to 'somebody/model'"):
        score("somebody/model", tmp_path, "--push_to_hub", "true")
    assert not (tmp_path / "scores").exists()


# ---- recipes/cache_teacher.py ----

DATA = ["--dataset_name", "shapes", "--max_train_samples", "32"]


@pytest.fixture
def teacher(tmp_path):
    model, processor = make_teacher()
    model.save_pretrained(tmp_path / "teacher")
    processor.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


def make_teacher():
    return kd.load_clip("shapes-conv")


def cache(folder, teacher, *flags):
    return cache_teacher.main(
        ["--teacher_model_name_or_path", teacher, "--output_dir", str(folder), *DATA, "--shard_size", "16", *flags]
    )


def test_a_shared_cache_serves_another_machine(hub, tmp_path, teacher, wipe_cache, monkeypatch):
    push = ["--push_to_hub", "true", "--hub_model_id", "lab/cache", "--crop_scale", "[0.5, 1.0]", "--flip", "0.5"]
    written = cache(tmp_path / "cache", teacher, *push)
    assert hub.titles("lab/cache", type="dataset") == ["Upload"]
    files = hub.files("lab/cache", type="dataset")
    assert {"cache.json", "index.safetensors", "recipe.yaml", "README.md", "shard-000001.safetensors"} < set(files)
    assert files["README.md"].startswith(b"---\n")

    wipe_cache()
    read = kd.TeacherCache("lab/cache")
    assert len(read) == len(written) == 32 and read.manifest == written.manifest
    places, epochs = range(32), [0] * 32
    theirs, ours = read.images(places, epochs), written.images(places, epochs)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())

    # Images and captions are those that the cache was written for, wherever they are.
    data = kd.load_image_text("lab/cache")
    assert data["text"] == kd.load_image_text("shapes", max_samples=32)["text"]
    assert len(kd.load_image_text(str(tmp_path / "cache"), max_samples=5)) == 5
    names = ["--dataset_name", "lab/cache", "--teacher_cache", "lab/cache", "--losses", "crd", *push[4:]]
    distil(tmp_path / "student", *names, evaluation=None)
    assert (tmp_path / "student/model.safetensors").is_file()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert len(kd.TeacherCache("lab/cache")) == len(kd.load_image_text("lab/cache")) == 32
    with pytest.raises(ValueError, match="`split='test'` is not the split of the teacher cache 'lab/cache'"):
        kd.load_image_text("lab/cache", split="test")


def test_a_cache_whose_push_fails_is_pushed_by_the_command(hub, tmp_path, teacher):
    hub.fail("PUT", "/lfs/", status=500, skip=1, times=99)
    with pytest.raises(PushError) as error:
        cache(tmp_path / "cache", teacher, "--push_to_hub", "true")
    assert len(kd.TeacherCache(tmp_path / "cache")) == 32
    assert set(hub.files("me/cache", type="dataset")) == {".gitattributes"}
    hub.failures.clear()
    finish(error.value)
    assert hub.titles("me/cache", type="dataset") == ["Upload"] and len(kd.TeacherCache("me/cache")) == 32


def test_what_is_no_shared_cache_is_told(hub):
    with pytest.raises(ValueError, match="there is no such folder, and the Hub gave no data set of that id"):
        kd.TeacherCache("me/nothing")
    hub.seed("me/cache", {"cache.json": b"{}"}, type="dataset")
    with pytest.raises(ValueError, match="has no recipe.yaml, so its data is unknown"):
        kd.load_image_text("me/cache")
    several = {"dataset_name": None, "split": "train", "max_train_samples": None}
    several |= {"datasets": [{"dataset_name": "a"}, {"dataset_name": "b"}]}
    hub.seed("me/cache", {"recipe.yaml": yaml.safe_dump(several).encode()}, type="dataset")
    with pytest.raises(ValueError, match="was written for 2 sources"):
        kd.load_image_text("me/cache")


def test_a_cache_asks_for_the_rights_first(hub, tmp_path):
    with pytest.raises(ValueError, match="Nothing can be pushed to 'somebody/cache'"):
        cache(tmp_path / "cache", "nowhere", "--push_to_hub", "true", "--hub_model_id", "somebody/cache")
    assert not (tmp_path / "cache").exists()
