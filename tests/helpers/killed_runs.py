"""Work that a test kills and starts again until it ends: trainings of all kinds, and recipes that write files."""

import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import cache_world
import llava_runs
import torch
import torch.distributed as dist
from board import Board
from engine_runs import ENGINES, prepare
from full_disk import DiskFull, limit_files
from huggingface_hub import HfApi
from killed_work import STEPS, WORK
from miniature import AnyTeacher, Pairs, Teacher, collate, make_args, make_clip
from tar_files import write_tars
from watched import WatchedDistillation, WatchedLlava, watched_collator

import hf_clip_kd as kd
from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.models import load_clip
from hf_clip_kd.recipe_io.processes import process_state
from hf_clip_kd.teachers.cache import ReplayCollator
from hf_clip_kd.vlm import LlavaDataCollator, LlavaTrainingArguments

# Everything that has a state: dropout or masks, GradCache, heads, an average, an order.
SETTINGS = {
    "max_steps": STEPS,
    "optim": "adamw_torch",
    "lr_scheduler_type": "cosine",
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 1,
    "ema_decay": 0.9,
    "ema_evaluate": False,
    "train_sampling_strategy": "random",
    "gradient_accumulation_steps": 2,
    "ddp_find_unused_parameters": False,
    "logging_steps": 1,
}


def rows_of_a_step(processes):
    return SETTINGS | {"per_device_train_batch_size": 8 // processes}


def on_a_map(folder, board, processes, **changes):
    collator = watched_collator(collate, board)
    args = make_args(folder, **rows_of_a_step(processes) | changes)
    student, teacher = make_clip(attention_dropout=0.2), Teacher(make_clip(24, 20, seed=1))
    return WatchedDistillation(student, args, teacher, Pairs(40), data_collator=collator)


def on_a_stream(folder, board, processes, **changes):
    student, processor = load_clip("test-vit")
    tars = load_image_text("webdataset", data_files=str(folder.parent / "tars" / "*.tar"), streaming=True)
    losses = {"clip": 1.0, "fd": 1.0, "mfd": {"weight": 1.0, "mask_ratio": 0.5}}
    own = {"losses": losses, "per_device_train_batch_size": 4, "dataloader_num_workers": 2}
    return WatchedDistillation(
        student,
        make_args(folder, **SETTINGS | own | changes),
        AnyTeacher(load_clip("test-vit")[0]),
        Stream([tars, load_image_text("shapes", max_samples=5)], weights=[2, 1], seed=1, buffer_size=3),
        data_collator=watched_collator(CLIPDataCollator(processor, crop_scale=(0.3, 1), flip=0.5, seed=3), board),
    )


def write_stream(folder):
    write_tars(folder / "tars", (5, 7, 4, 6))


def from_a_cache(folder, board, processes, **changes):
    student, processor = load_clip("test-vit")
    cache = kd.TeacherCache(folder.parent / "cache")
    own = {"losses": {"clip": 1.0, "crd": 1.0, "fd": 1.0}, "per_device_train_batch_size": 4}
    return WatchedDistillation(
        student,
        make_args(folder, **SETTINGS | own | changes),
        cache,
        cache_world.dataset(),
        data_collator=watched_collator(
            ReplayCollator(processor, cache, seed=cache_world.SEED, max_broken_fraction=1.0), board
        ),
    )


def write_cache(folder):
    cache_world.writer(folder / "cache", cache_world.teacher()).write()


def of_a_llava(folder, board, processes, **changes):
    model, processor = llava_runs.make_model()
    own = {"per_device_train_batch_size": 4 // processes, "learning_rate": 1e-2, "disable_tqdm": True}
    args = LlavaTrainingArguments(
        str(folder), **SETTINGS | own | {"report_to": "none", "use_cpu": True, "lora": {"r": 4}} | changes
    )
    collator = watched_collator(LlavaDataCollator(processor), board)
    return WatchedLlava(model, args, processor, llava_runs.make_rows(), collator)


def repo_of(folder):
    # A card escapes two in a row, and the name could not be found in it.
    return f"me/{folder.parent.name}-{folder.name}".replace("__", "_")


def pushed(folder, board, processes, **changes):
    own = {"push_to_hub": True, "hub_model_id": repo_of(folder)}
    return on_a_map(folder, board, processes, **own | changes)


def digest(run):
    """Hash all that a run has learned: weights, heads, scales, optimizer, average, random state."""
    tensors = [*run.model.state_dict().values(), *run.ema.average.values, torch.random.get_rng_state()]
    optimizer = run.optimizer
    while hasattr(optimizer, "optimizer"):  # wrappers of accelerate and of engines
        optimizer = optimizer.optimizer
    tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    found = hashlib.sha256(f"{run.state.global_step} {run.lr_scheduler.state_dict()}".encode())
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def digest_on_disk(run, folder):
    """Hash what a run leaves in its folder: model, heads and average of the last checkpoint, and the log."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    logs = [entry for entry in map(json.loads, lines) if "loss" in entry]
    steps = [entry["step"] for entry in logs]
    assert steps == [*range(1, run.state.global_step + 1)], f"metrics.jsonl has the steps {steps}"
    told = [[entry.get(name) for name in ("loss", "grad_norm", "learning_rate")] for entry in logs]
    log = hashlib.sha256(repr(told).encode()).hexdigest()
    return f"checkpoint={hash_files(folder / f'checkpoint-{STEPS}', '*.safetensors')} log={log}"


def digest_on_hub(repo_id, folder):
    """
    Hash each file at the head of a repository. Its name and that of the folder count as any other.

    Refuse a history in which a commit comes twice, or an earlier one later. A kill may leave a checkpoint out.
    """
    hub, found = HfApi(), []
    titles = [commit.title for commit in hub.list_repo_commits(repo_id)][:-1]  # The first made the repository.
    steps = [int(title.rpartition(" ")[2]) for title in titles if title.startswith("Training in progress, step ")]
    ends = len(titles) - len(steps)  # There is none if the end brings nothing new.
    assert ends <= 1 and not any(map(str.isdigit, "".join(titles[:ends]))), f"the Hub has {titles}"
    assert steps == sorted({*steps}, reverse=True), f"the Hub has {titles}"
    for file in sorted(hub.list_repo_files(repo_id)):
        if file == ".gitattributes":
            continue
        data = Path(hub.hf_hub_download(repo_id, file)).read_bytes()
        for own in (repo_id, repo_id.partition("/")[2], str(folder)):
            data = data.replace(own.encode(), b"OWN")
        found.append(f"hub/{file}={hashlib.sha256(data).hexdigest()}")
    return " ".join(found)


# ---- Recipes ----


def recipe(name, *argv):
    importlib.import_module(f"recipes.{name}").main(list(map(str, argv)))


def hash_files(folder, pattern="*"):
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def write_student(folder):
    model, processor = load_clip("test-vit")
    for part in (model, processor):
        part.save_pretrained(folder / "student")


def caching(folder):
    flags = ["--teacher_model_name_or_path", folder.parent / "student", "--output_dir", folder / "cache"]
    data = ["--dataset_name", "shapes", "--max_train_samples", 96, "--shard_size", 8]
    recipe("cache_teacher", *flags, *data)
    # recipe.yaml names its own output.
    found = {pattern: hash_files(folder / "cache", pattern) for pattern in ("*.safetensors", "cache.json")}
    return " ".join(f"{pattern}={hashed}" for pattern, hashed in found.items())


def evaluating(folder):
    # The output is relative, since the results name it.
    os.chdir(folder)
    data = {
        "zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 64},
        "retrieval": {"dataset_name": "shapes", "split": "retrieval", "max_samples": 32},
    }
    flags = ["--model_name_or_path", folder.parent / "student", "--output_dir", "results"]
    recipe("evaluate", *flags, "--evaluation", json.dumps(data))
    return hash_files(folder / "results", "*.json")


def pushing_a_folder(folder):
    if not (folder / "student").exists():
        shutil.copytree(folder.parent / "student", folder / "torn", dirs_exist_ok=True)
        (folder / "torn").rename(folder / "student")
    recipe("push", folder / "student", repo_of(folder))
    return digest_on_hub(repo_of(folder), folder)


def prepare_all(name, folder):
    """Write the files that all lives of a work share."""
    if WORK[name].prepare is not None:
        globals()[WORK[name].prepare](folder)


def live(name, folder, rank, processes, port, full_at=None, changes=None):
    """Live once: go on from what is there, and leave a digest at the end."""
    work, make = WORK[name], globals()[WORK[name].make]
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # dataloader workers are forked outside of a forkserver
    os.setpgid(0, 0)  # its dataloader workers are killed with it
    # No word can be written to a full disk, and `print` would say so.
    log = os.open(folder / "output.log" if full_at is None else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.setdefault("HF_TOKEN", "hf_" + "m" * 34)  # user `me` of tests/conftest.py
    torch.manual_seed(0)
    if work.phases:
        told = train(work, make, folder, rank, full_at, changes or {})
    else:
        os.environ["ACCELERATE_USE_CPU"] = "true"
        if full_at is not None:
            limit_files(full_at[1])
        told = make(folder)
        limit_files(None)
        assert process_state().num_processes == processes, "each process believes that it is alone"
    path = folder / f"digest-{rank}"
    path.with_suffix(".tmp").write_text(told)
    path.with_suffix(".tmp").replace(path)
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()
    os._exit(0)


def train(work, make, folder, rank, full_at, changes):
    engine = {}
    if work.engine is not None:
        prepare(work.engine)
        engine = ENGINES[work.engine]
    board = Board(folder / f"board-{rank}")
    run = make(folder, board, work.processes, **work.changes | engine | changes)
    run.board = board
    run.watch()
    if full_at is not None:
        step, size = full_at
        run.add_callback(DiskFull(size, step + 1, step + 2))
    run.train(resume_from_checkpoint="auto")
    found = [f"run={digest(run)}"]
    if rank == 0:
        found.append(digest_on_disk(run, folder))
    if run.args.push_to_hub:
        run.push_to_hub()
        found.append(digest_on_hub(run.args.hub_model_id, folder))
    return " ".join(found)
