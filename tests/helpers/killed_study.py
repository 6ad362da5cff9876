"""A study of four stages that is killed with all its children: a teacher, a student, its scores, their cost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
from tiny_study import TINY, write_study

ROOT = Path(__file__).parents[2]
SMALL = {
    "teachers": {"S": TINY["teachers"]["S"]},
    "cells": [{"teacher": "S"}],
    "vlm": [],
    "language_models": {},
    "references": {},
    "representation": None,
    "reference_teacher": None,
}


def start(folder):
    """Start the study, or let it go on; it writes into `folder`/out."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "recipes/study.py"), "--config", str(write_study(folder, **SMALL))]
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def kill_family(process):
    """Kill the runner and all that it has started, as a power cut does."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()


def results(folder):
    """All cells of the study, without what is measured with a clock and where it lies."""
    found = {}
    for path in sorted((folder / "out/cells").glob("*.json")):
        cell = json.loads(path.read_text())
        for block in (cell, cell["teacher"]):
            block["cost"].pop("images_per_second")
        del cell["seconds"]
        found[path.name] = cell
    return found
