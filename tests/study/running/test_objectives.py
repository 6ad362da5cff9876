"""The objectives of a study: each loss unasked, and facts about them."""

import pytest
from tiny_study import TINY

import hf_clip_kd as kd
from hf_clip_kd.losses import OBJECTIVES
from hf_clip_kd.losses.specification import specification
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.objectives import every_objective, reads_generated_captions


def study(**changes):
    return StudyArguments(**(TINY | {"output_dir": "out", "cells": None} | changes))


def test_every_loss_alone_and_with_the_task():
    found = every_objective()
    others = [name for name in kd.LOSSES if name != "clip"]
    assert {(name, *losses) for name, losses in found.items()} == {
        ("clip", "clip"),
        *((name, name) for name in others),
        *((f"clip+{name}", "clip", name) for name in others),
        *((name, *specification(name)) for name in OBJECTIVES),
    }
    assert next(iter(found)) == "clip"
    for name, losses in found.items():
        for loss, spec in losses.items():
            if name not in OBJECTIVES:
                assert spec == {"weight": kd.LOSSES[loss].default_weight}


def test_a_new_loss_is_compared_unasked(monkeypatch):
    monkeypatch.setitem(kd.LOSSES, "new", kd.LOSSES["crd"])
    arguments = study(objectives={}, every_loss=True)
    assert {"new", "clip+new"} <= arguments.objectives.keys()
    assert {"teacher": "S", "objective": "clip+new"} in arguments.cells


def test_an_entry_of_its_own_replaces_the_default():
    arguments = study(objectives={"gd": {"gd": 0.16}, "alone": {"clip": 1.0}}, every_loss=True)
    assert (
        arguments.objectives["gd"] == {"gd": 0.16} and arguments.objectives["clip+gd"] == every_objective()["clip+gd"]
    )
    assert list(arguments.objectives) == [*every_objective(), "alone"]
    # The record of a study is read again when the table may have grown.
    assert not arguments.every_loss


def test_without_cells_each_objective_is_one_with_a_teacher_if_it_needs_one():
    arguments = study(objectives={"clip": "clip", "siglip": "siglip", "crd": "crd"})
    assert arguments.cells == [
        {"teacher": None, "objective": "clip"},
        {"teacher": None, "objective": "siglip"},
        {"teacher": "S", "objective": "crd"},
    ]
    with pytest.raises(ValueError, match="'crdd' in `losses` is no loss.*'crd'"):
        study(objectives={"crdd": "crdd"})


def test_losses_that_learn_from_generated_captions():
    names = [name for name in [*kd.LOSSES, *OBJECTIVES] if reads_generated_captions(name)]
    assert names == ["reinforced", "mobileclip"]
    assert reads_generated_captions({"clip": {"synthetic": True}})
    assert not reads_generated_captions({"reinforced": {"synthetic": False}})
