"""Train under ZeRO 1, 2 and 3 on two processes as on one: the fast part of test_engines.py."""

import pytest
import torch
from engine_runs import ZERO_STEPS, make_run, train_zero
from processes import launch
from transformers import CLIPModel

PROCESSES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return launch(train_zero, PROCESSES, tmp_path_factory.mktemp("zero"))


@pytest.fixture(scope="module")
def losses_of_one_process(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("alone"), max_steps=ZERO_STEPS)
    run.train()
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_of_zero_trains_as_one_process_and_saves_what_it_trained(stage, folder, losses_of_one_process):
    saved = CLIPModel.from_pretrained(folder / f"zero{stage}").state_dict()
    for rank in range(PROCESSES):
        result = torch.load(folder / f"zero{stage}{rank}.pt", weights_only=True)
        assert (result["wrapped"], result["sharded"]) == ("DeepSpeedEngine", stage == 3)
        assert len(result["loss"]) == ZERO_STEPS
        assert result["loss"] == pytest.approx(losses_of_one_process, rel=1e-5)
        assert all(torch.equal(value, result["state"][f"student.{key}"]) for key, value in saved.items())
