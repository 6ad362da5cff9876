"""A process that is lost is named by the others, which end in a bounded time."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from lost_peers import LOSSES, TIMEOUT, jump, lose, recipe
from ports import free_port
from teacher_models import tiny_clip

from hf_clip_kd.training.peers import Peers

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # includes the imports of the server on a busy machine


def start(context, target, folder, *args):
    port = free_port()
    processes = [context.Process(target=target, args=(rank, port, str(folder), *args)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def end(processes):
    for process in processes:
        process.join(PATIENCE)
        process.kill()


def test_alone_there_is_nobody_to_watch():
    peers = Peers()
    with pytest.raises(RuntimeError, match="^gloo$"), peers.watching():
        raise RuntimeError("gloo")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
@pytest.mark.parametrize("how", LOSSES)
def test_a_lost_rank_is_named(context, how, victim, tmp_path):
    processes = start(context, lose, tmp_path, victim, how, TIMEOUT)
    processes[1 - victim].join(PATIENCE)
    end([processes[1 - victim]])
    processes[victim].kill()  # also a stopped one
    found = torch.load(tmp_path / f"{1 - victim}.pt")
    assert found["said"].startswith(f"RuntimeError: Rank {victim} (process {processes[victim].pid} on "), found["said"]
    assert LOSSES[how] in found["said"] or (victim == 0 and "does not answer" in found["said"]), found["said"]
    assert "--resume_from_checkpoint auto" in found["said"]
    assert found["seconds"] < 6 * TIMEOUT


@pytest.mark.slow
def test_a_rank_that_stops_for_a_while_goes_on(context, tmp_path):
    processes = start(context, lose, tmp_path, 1, "stopped", 120)
    deadline = time.monotonic() + PATIENCE
    while not stopped(processes[1].pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(60)
    os.kill(processes[1].pid, signal.SIGCONT)
    end(processes)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [own["said"] for own in found] == ["nothing", "nothing"]
    assert found[0]["digest"] == found[1]["digest"]
    # Rank 0 tells it every two seconds here, and every minute in a run.
    (first, *others), who = found[0]["warned"], f"Rank 1 (process {processes[1].pid} on "
    assert len(others) > 5 and first.startswith(who) and "has given no sign of life for" in first
    assert found[1]["warned"] == []


def stopped(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


MODEL = "--model_name_or_path"
TEACHER = "--teacher_model_name_or_path"
# recipe -> the flags that name its models
RECIPES = {
    "cache_teacher": [TEACHER],
    "evaluate": [MODEL],
    "distill": [TEACHER, MODEL],
    "train_captioner": [TEACHER],
    "train_vlm": ["--vision_tower"],
}


def flags_of(name, folder):
    models = [word for flag in RECIPES[name] for word in (flag, str(student(folder)))]
    return [*models, "--output_dir", str(folder / "out")]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_the_rank_with_another_yaml(context, name, tmp_path):
    """Its part of the data or its crops would be others without a word."""
    configs = []
    for number, allowed in enumerate(("false", "true")):
        demo = (ROOT / f"recipes/configs/{name}/demo.yaml").read_text()
        configs.append(tmp_path / f"{number}.yaml")
        configs[-1].write_text(f"{demo}\ntrust_remote_code: {allowed}\n")
    flags = flags_of(name, tmp_path)
    own, other = ([*flags, "--config", str(config)] for config in configs)
    end(start(context, recipe, tmp_path, name, own, other))
    for rank in range(2):
        said = torch.load(tmp_path / f"{rank}.pt")
        assert said.startswith("ValueError: The processes of this run disagree"), said
        assert ".trust_remote_code: False on rank 0, True on rank 1" in said, said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cache_teacher", "evaluate"])
def test_a_recipe_names_the_rank_that_ends(context, name, tmp_path):
    """The other would wait for ever at the next meeting."""
    processes = start(context, recipe, tmp_path, name, flags_of(name, tmp_path), None)
    end(processes)
    said = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert said[1] == "ValueError: the teacher does not fit in here"
    assert said[0].startswith(f"RuntimeError: Rank 1 (process {processes[1].pid} on "), said[0]
    assert "ended: ValueError: the teacher does not fit in here" in said[0]


def student(folder):
    for part in tiny_clip():
        part.save_pretrained(folder / "student")
    return folder / "student"


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(context, tmp_path):
    digests = []
    for seconds in (0, 86_400):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        end(start(context, jump, folder, seconds))
        found = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
        assert [own["said"] for own in found] == ["nothing", "nothing"]
        assert [path.name for path in (folder / "run").glob("checkpoint-*")] == ["checkpoint-5"]
        digests.append(found[0]["digest"])
    assert digests[0] == digests[1]
