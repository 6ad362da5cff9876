"""Damaged files of a checkpoint are named at resume, whatever a library says of them."""

import json
import shutil

import pytest
import torch
from checkpointed_runs import as_of_version_2, make_run
from safetensors.torch import load_file, save_file

from hf_clip_kd.training.checkpoint_reading import check_state, load_part, reading


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    make_run(folder, ema_decay=0.9, max_steps=3).train()
    shutil.rmtree(folder / "checkpoint-3")
    as_of_version_2(folder / "checkpoint-2")  # Checksums would find the damage first.
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "losses.safetensors",
        "ema.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    ],
)
def test_a_file_of_the_right_size_that_cannot_be_read_is_told(name, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "run")
    path = folder / "checkpoint-2" / name
    path.write_bytes(b"\0" * 64 + path.read_bytes()[64:])
    with pytest.raises(ValueError, match=r"checkpoint-2.*(Restore its files, or resume|get it again)"):
        make_run(folder, ema_decay=0.9, max_steps=3).train(resume_from_checkpoint="auto")


def spoil_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"].view(-1)[0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_moments(folder):
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    state["state"][3]["exp_avg_sq"].view(-1)[-1] = torch.inf
    torch.save(state, folder / "optimizer.pt")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [(spoil_weights, "weight '.*' is NaN"), (spoil_moments, "optimizer's 'exp_avg_sq' of a weight is")],
)
def test_numbers_that_no_training_leaves_are_told(spoil, what, saved, tmp_path):
    """A loss that is not finite would come a step later, and name the data."""
    folder = shutil.copytree(saved, tmp_path / "run")
    size = [path.stat().st_size for path in sorted((folder / "checkpoint-2").iterdir())]
    spoil(folder / "checkpoint-2")
    assert [path.stat().st_size for path in sorted((folder / "checkpoint-2").iterdir())] == size
    with pytest.raises(ValueError, match=rf"checkpoint-2.* the {what}.*Restore its files, or resume"):
        make_run(folder, ema_decay=0.9, max_steps=3).train(resume_from_checkpoint="auto")


@pytest.mark.parametrize(
    ("name", "value"), [("global_step", None), ("max_steps", "many"), ("log_history", {}), ("epoch", [])]
)
def test_a_place_of_another_type_is_told(name, value, saved, tmp_path):
    state = json.loads((saved / "checkpoint-2/trainer_state.json").read_text())
    check_state(saved / "checkpoint-2")
    (tmp_path / "trainer_state.json").write_text(json.dumps(state | {name: value}))
    with pytest.raises(ValueError, match=f"trainer_state.json: `{name}` of the file is .*Restore its files"):
        check_state(tmp_path)


@pytest.mark.parametrize("error", [MemoryError("m"), torch.OutOfMemoryError("m"), RuntimeError("gloo: closed")])
def test_errors_of_memory_and_of_other_processes_stay(error):
    with pytest.raises(type(error), match=f"^{error}$"), reading("x"):
        raise error


def test_an_error_that_names_the_place_stays(tmp_path):
    with pytest.raises(ValueError, match="^x is torn$"), reading("x"):
        raise ValueError("x is torn")
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"'.*a.safetensors' cannot be read \(SafetensorError: .*must be as it was"):
        load_part(tmp_path / "a.safetensors")
