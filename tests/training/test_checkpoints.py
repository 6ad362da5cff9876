"""Checkpoints are complete or not there, and only their own run resumes from the last complete one."""

import json
import logging
import resource
import shutil
from pathlib import Path

import cache_world
import llava_runs
import pytest
import torch
from checkpointed_runs import assert_same, make_run, names
from full_disk import DiskFull
from miniature import BATCH, STEPS, Pairs, Teacher, best_of, logs, make_args, make_clip
from processes import join, launch, leave
from transformers import TrainerCallback

import hf_clip_kd.training.checkpoints
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.distillation.training_args import DistillationTrainingArguments
from hf_clip_kd.models import load_clip
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.recipe_io.sealed import sealed
from hf_clip_kd.teachers.cache import ReplayCollator
from hf_clip_kd.training.checkpoint_files import MARK, rotate, why_incomplete

# ---- Torn checkpoints ----


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_run_does_not_begin_anew_where_all_have_lost_a_file(killed, name):
    for step in (1, 2, 3):
        (killed / f"checkpoint-{step}" / name).unlink()
    for wanted in ("auto", True):
        with pytest.raises(ValueError, match=f"checkpoint-3' was whole.*{name} is missing.*Restore.*checkpoint-1"):
            make_run(killed).train(resume_from_checkpoint=wanted)
    assert names(killed) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_run_goes_on_from_the_last_whole_one(whole, killed):
    (killed / "checkpoint-3" / "optimizer.pt").unlink()
    (killed / "torn-checkpoint-3").mkdir()
    run = make_run(killed)
    run.train(resume_from_checkpoint="auto")
    assert_same(run, whole[0])
    assert len(logs(run, "loss")) == STEPS
    assert names(killed) == [f"checkpoint-{n}" for n in (1, 2, 3, 4)] + ["torn-checkpoint-3", "torn-checkpoint-3-2"]


@pytest.mark.parametrize("wanted", ["auto", True])
def test_any_number_of_times(whole, killed, wanted):
    for _ in range(2):  # the second time nothing is left to do, and nothing is done
        run = make_run(killed)
        run.train(resume_from_checkpoint=wanted)
        assert_same(run, whole[0])


def test_without_a_checkpoint_auto_begins_at_the_start(whole, tmp_path):
    run = make_run(tmp_path)
    run.train(resume_from_checkpoint="auto")
    assert_same(run, whole[0])
    with pytest.raises(ValueError, match="no whole checkpoint in"):
        make_run(tmp_path / "none").train(resume_from_checkpoint=True)


def test_a_torn_one_that_is_asked_for_is_refused(killed):
    (killed / "checkpoint-3" / "rng_state.pth").unlink()
    with pytest.raises(ValueError, match="no whole checkpoint: rng_state.pth is missing"):
        make_run(killed).train(resume_from_checkpoint=str(killed / "checkpoint-3"))
    with pytest.raises(ValueError, match="no checkpoint.json"):
        make_run(killed).train(resume_from_checkpoint=str(killed / "checkpoint-9"))
    assert "checkpoint-3" in names(killed), "stays where it is"


def test_older_ones_are_deleted_only_when_the_new_one_is_whole(whole, tmp_path, monkeypatch):
    seen = []

    def look(*args):
        seen.append([(path.name, why_incomplete(path)) for path in sorted(tmp_path.glob("checkpoint-*"))])
        rotate(*args)

    monkeypatch.setattr(hf_clip_kd.training.checkpoints, "rotate", look)
    run = make_run(tmp_path, save_total_limit=1)
    run.train()
    assert seen[1:] == [[(f"checkpoint-{n}", None), (f"checkpoint-{n + 1}", None)] for n in (1, 2, 3)]
    assert names(tmp_path) == ["checkpoint-4"]
    saved = json.loads((tmp_path / "checkpoint-4" / "training_args.json").read_text())
    assert saved["save_total_limit"] == run.args.save_total_limit == 1


def test_files_of_an_earlier_run_are_not_mixed_in(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "rng_state_1.pth").touch()
    make_run(tmp_path, max_steps=1).train()
    assert not (tmp_path / "checkpoint-1" / "rng_state_1.pth").exists()


def test_end_of_an_epoch_does_not_tear_what_its_last_step_saved(tmp_path):
    run = make_run(tmp_path, save_strategy="epoch", max_steps=2, dataset=Pairs(8))
    run.train()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"] and why_incomplete(tmp_path / "checkpoint-2") is None


def test_flag_without_a_value(tmp_path):
    config = tmp_path / "recipe.yaml"
    config.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\n")
    parser = RecipeParser(DistillationTrainingArguments, config)
    (args,) = parser.parse(["--resume_from_checkpoint", "--max_hours", "2"])
    assert (args.resume_from_checkpoint, args.max_hours) == ("auto", 2.0)
    (args,) = parser.parse(["--resume_from_checkpoint", "out/checkpoint-3"])
    assert args.resume_from_checkpoint == "out/checkpoint-3"


def cached_run(folder, cache, **changes):
    """Two epochs, each with crops of its own, which are read with the teacher's features from a cache."""
    torch.manual_seed(0)
    student, processor = load_clip("test-vit")
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 8, "train_sampling_strategy": "random"}
    return DistillationTrainer(
        student,
        make_args(
            folder, losses={"clip": 1.0, "crd": 1.0, "fd": 1.0}, per_device_train_batch_size=5, **settings | changes
        ),
        teacher_model=cache,
        train_dataset=cache_world.dataset(),
        data_collator=ReplayCollator(processor, cache, seed=cache_world.SEED, max_broken_fraction=1.0),
    )


def test_features_from_a_cache_go_on_where_they_were(tmp_path):
    cache = cache_world.writer(tmp_path / "cache", cache_world.teacher()).write()
    whole = cached_run(tmp_path / "run", cache)
    whole.train()
    for step in (7, 8):
        shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    resumed = cached_run(tmp_path / "run", cache)
    resumed.train(resume_from_checkpoint="auto")
    assert_same(resumed, whole)
    assert logs(resumed, "loss") == logs(whole, "loss")
    other = cache_world.writer(tmp_path / "other", cache_world.teacher(), views={"flip": 0.0}).write()
    with pytest.raises(ValueError, match=r"teacher\.cache was"):
        cached_run(tmp_path / "run", other).train(resume_from_checkpoint="auto")


# ---- Other runs ----

OTHERS = {
    "losses": ({"losses": {"clip": 1.0, "crd": 0.5, "icl": 1.0, "fd": 3.0}}, r"losses\.fd\.weight was 4.0, is 3.0"),
    "batch": ({"per_device_train_batch_size": 4}, r"data\.batch_size was 8, is 4"),
    "accumulation": ({"gradient_accumulation_steps": 2}, r"data\.gradient_accumulation_steps was 1, is 2"),
    "seed": ({"seed": 7}, r"data\.order\.seed was 42, is 7"),
    "data": ({"dataset": Pairs(24)}, r"data\.rows was 32, is 24"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_or_allowed_by_a_flag(killed, name, caplog):
    changes, message = OTHERS[name]
    with pytest.raises(ValueError, match=f"{message}.*allow_changed_resume"):
        make_run(killed, **changes).train(resume_from_checkpoint="auto")
    assert names(killed) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    run = make_run(killed, allow_changed_resume=True, **changes)
    with caplog.at_level(logging.WARNING):
        run.train(resume_from_checkpoint="auto")
    assert run.state.global_step == STEPS and "as another run" in caplog.text


def test_another_teacher_is_refused(killed):
    run = make_run(killed)
    run.teacher = Teacher(make_clip(24, 20, seed=2))
    with pytest.raises(ValueError, match=r"teacher\.weights was"):
        run.train(resume_from_checkpoint="auto")
    with pytest.raises(ValueError, match=r"teacher was \{.*, is None"):
        make_run(killed, teacher=False, losses={"clip": 1.0}).train(resume_from_checkpoint="auto")


def test_other_processes_or_another_engine_are_refused(killed):
    mark = killed / "checkpoint-3" / MARK
    text = json.loads(mark.read_text())
    text["run"]["processes"] = 2
    mark.write_text(json.dumps(sealed(text, "checkpoint")))
    with pytest.raises(ValueError, match="processes was 2, is 1"):
        make_run(killed).train(resume_from_checkpoint="auto")
    text["run"]["engine"] = "deepspeed"
    mark.write_text(json.dumps(sealed(text, "checkpoint")))
    with pytest.raises(ValueError, match="saved under 'deepspeed'"):
        make_run(killed, allow_changed_resume=True).train(resume_from_checkpoint="auto")


# ---- A full disk ----


@pytest.fixture
def room():
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def size_of(whole, name):
    return (whole[1] / "checkpoint-2" / name).stat().st_size


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_full_disk_keeps_the_last_whole_one_and_goes_on(whole, name, tmp_path, room, caplog):
    run = make_run(tmp_path, save_total_limit=1, callbacks=[DiskFull(size_of(whole, name) - 1)])
    kept = []
    run.add_callback(Look(lambda: kept.append(names(tmp_path))))
    with caplog.at_level(logging.WARNING):
        run.train()
    assert kept == [["checkpoint-1"]] * 3 + [["checkpoint-4"]]
    assert why_incomplete(tmp_path / "checkpoint-4") is None
    assert caplog.text.count("checkpoint-1 is whole. The training goes on") == 2
    assert ("SafetensorError" if name == "model.safetensors" else "RuntimeError") in caplog.text
    assert_same(run, whole[0])


def test_full_disk_stops_if_told_to(whole, tmp_path, room):
    full = DiskFull(size_of(whole, "optimizer.pt") - 1)
    run = make_run(tmp_path, on_failed_save="stop", callbacks=[full])
    with pytest.raises(RuntimeError, match="checkpoint-2 could not be saved.*checkpoint-1 is whole.*Make room"):
        run.train()
    assert names(tmp_path) == ["checkpoint-1"]


@pytest.mark.parametrize("place", ["writing", "finishing"])
def test_no_space_anywhere(whole, place, tmp_path, monkeypatch, caplog):
    run = make_run(tmp_path)
    owner, name = {"writing": (run, "_save_rng_state"), "finishing": (run.checkpoints, "_finish")}[place]
    write = getattr(owner, name)

    def failing(*args):
        if run.state.global_step == 2:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(owner, name, failing)
    with caplog.at_level(logging.WARNING):
        run.train()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert "No space left on device" in caplog.text
    assert_same(run, whole[0])


def test_a_disk_that_has_gone_does_not_end_the_training(whole, tmp_path, monkeypatch, caplog):
    """Nobody can tell how much room it has, either."""

    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory")

    run = make_run(tmp_path, callbacks=[])
    without_room(run, "_save_rng_state", step=2)
    monkeypatch.setattr(shutil, "disk_usage", gone)
    with caplog.at_level(logging.WARNING):
        run.train()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert "checkpoint-1 is whole. The training goes on" in caplog.text


def without_room(run, name, step, ranks=(0,)):
    """Let a method of the trainer find no room at one step, on some processes."""
    write = getattr(run, name)

    def failing(*args, **kwargs):
        if run.state.global_step == step and run.args.process_index in ranks:
            raise OSError(28, "No space left on device")
        return write(*args, **kwargs)

    setattr(run, name, failing)


def best_on_disk(state):
    return state.best_metric, state.best_global_step, Path(state.best_model_checkpoint).name


@pytest.mark.parametrize("name", ["_save", "_save_rng_state"])
@pytest.mark.parametrize(
    ("scores", "best"),
    [((1.0, 3.0, 2.0, 0.0), (2.0, 3, "checkpoint-3")), ((4.0, 3.0, 2.0, 0.0), (4.0, 1, "checkpoint-1"))],
    ids=["lost", "kept"],
)
def test_the_best_of_a_run_is_a_checkpoint_that_is_there(name, scores, best, tmp_path):
    run = make_run(tmp_path, save_total_limit=1, **best_of(*scores))
    without_room(run, name, step=2)
    run.train()
    assert best_on_disk(run.state) == best
    assert (tmp_path / best[2] / MARK).exists()


def best_of_two(rank, processes, port, folder, name):
    join(rank, processes, port)
    # The best is known from step 1, so that processes wait for each other between model and optimizer.
    run = make_run(f"{folder}/run", per_device_train_batch_size=BATCH // 2, **best_of(1.0, 3.0, 2.0, 0.0))
    without_room(run, name, step=2)
    run.train()
    Path(folder, f"{rank}.json").write_text(json.dumps([best_on_disk(run.state), names(Path(folder, "run"))]))
    leave()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_save", "_save_rng_state"])
def test_nobody_waits_for_a_process_whose_disk_is_full(name, tmp_path):
    launch(best_of_two, 2, tmp_path, name)
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == [[2.0, 3, "checkpoint-3"], ["checkpoint-1", "checkpoint-3", "checkpoint-4"]]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    monkeypatch.setattr(run, "_save_rng_state", lambda folder: [][0])
    with pytest.raises(IndexError):
        run.train()


class Look(TrainerCallback):
    def __init__(self, look):
        self.look = look

    def on_save(self, args, state, control, **kwargs):
        self.look()


# ---- The other trainer ----


def llava_run(folder, **settings):
    model, processor = llava_runs.make_model()
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1} | settings
    return llava_runs.make_trainer(folder, model, processor, **settings)


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_dropout": 0.1}], ids=["full", "lora"])
def test_llava_goes_on_from_the_last_whole_one(lora, tmp_path, caplog):
    whole = llava_run(tmp_path, lora=lora, save_total_limit=2)
    whole.train()
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4"]
    (tmp_path / "checkpoint-4" / "optimizer.pt").unlink()
    resumed = llava_run(tmp_path, lora=lora)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint="auto")
    assert "optimizer.pt is missing" in caplog.text
    assert_same(resumed, whole)
    with pytest.raises(ValueError, match="stage was finetune, is pretrain"):
        llava_run(tmp_path, stage="pretrain").train(resume_from_checkpoint="auto")


def test_llava_is_stopped_by_its_hours(tmp_path):
    run = llava_run(tmp_path, max_hours=1e-9)
    with pytest.raises(SystemExit):
        run.train()
    assert run.state.global_step == 1 and why_incomplete(tmp_path / "checkpoint-1") is None
