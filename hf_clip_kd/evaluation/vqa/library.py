"""Import of the library `evaluate`, also beside a script of that name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_evaluate() -> ModuleType:
    """
    Import the library `evaluate`, and skip folders with a file `evaluate.py` on the way.

    `python recipes/evaluate.py` puts `recipes/` first on `sys.path`, and `import evaluate` would find that script.
    The library then stays in `sys.modules`, so all later imports find it.

    Raises:
        ImportError: if another module of that name is already loaded.
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
            f"`evaluate` is {getattr(module, '__file__', module)}, not the library of that name. The VQA metrics need "
            "the library. Import `hf_clip_kd.evaluation.vqa` first, or load your module under another name."
        )
    return module
