"""Processes that do not agree are told so before the first step, and none waits for the other."""

import json
from importlib.metadata import version

import pytest
import torch
from lost_peers import DISAGREEMENTS, disagree, make_run
from ports import free_port

from hf_clip_kd.training import agreement
from hf_clip_kd.training.agreement import check_agreement, settings


def others(monkeypatch, *facts):
    monkeypatch.setattr(agreement, "world_size", lambda: 1 + len(facts))
    monkeypatch.setattr(agreement, "gather_objects", lambda own: [own, *(json.dumps(found) for found in facts)])


def test_most_processes_are_the_measure(monkeypatch):
    others(monkeypatch, {"rows": 2}, {"rows": 2})
    with pytest.raises(ValueError, match=r"disagree. rows: 2 on rank 1, 1 on rank 0\. All must.*same command"):
        check_agreement({"rows": 1})
    check_agreement({"rows": 2})


def test_settings_hold_what_must_be_alike(tmp_path):
    found = settings(make_run(tmp_path))
    json.dumps(found)
    assert found["rows"] == {"train": 40} and found["versions"]["torch"] == version("torch")
    assert found["arguments"]["max_steps"] == 5 and not {"output_dir", "hub_token"} & found["arguments"].keys()
    assert settings(make_run(tmp_path)) == found != settings(make_run(tmp_path, width=32))


@pytest.mark.slow
def test_two_processes_that_disagree(context, tmp_path):
    port = free_port()
    processes = [context.Process(target=disagree, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        process.kill()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (_, words) in DISAGREEMENTS.items():
        for own in found:
            assert own[name].startswith("ValueError: The processes of this run disagree."), (name, own[name])
            assert words in own[name] and "on rank 1" in own[name], (name, own[name])
