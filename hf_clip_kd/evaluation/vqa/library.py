"""The library `evaluate`, also where a script of that name stands beside the running one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_evaluate() -> ModuleType:
    """
    The library `evaluate`. `python recipes/evaluate.py` puts `recipes/` first on `sys.path`, where `import evaluate`
    finds the script itself; so folders with a file `evaluate.py` are passed over while the library is imported.
    Once loaded it stays in `sys.modules`, where its own and everybody's later imports find it.

    Raises:
        ImportError: if another module of that name is loaded already.
    """
    if "evaluate" not in sys.modules:
        path = sys.path[:]
        try:
            sys.path[:] = [folder for folder in path if not (Path(folder) / "evaluate.py").is_file()]
            importlib.invalidate_caches()
            importlib.import_module("evaluate")
        finally:
            sys.path[:] = path
    module = sys.modules["evaluate"]
    if not hasattr(module, "EvaluationModule"):
        raise ImportError(
            f"`evaluate` is {getattr(module, '__file__', module)}, not the library of that name, which the VQA metrics "
            "are built on. Import `hf_clip_kd.evaluation.vqa` first, or load your module under another name."
        )
    return module
