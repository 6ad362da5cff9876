"""The arrows of the design: which module of ours may import which, and how long a file may be."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 300

# Folder of hf_clip_kd -> which others it may import, and so which it may reach by any path.
MAY_IMPORT = {
    "losses": set(),
    "recipe_io": set(),
    "models": {"recipe_io"},
    "data": {"recipe_io"},
    "teachers": {"data", "losses", "models", "recipe_io"},
    "hub": {"losses", "models", "recipe_io"},
    "training": {"hub", "models", "recipe_io"},
    "evaluation": {"data", "models", "recipe_io", "teachers"},
    "distillation": {"losses", "models", "teachers", "training"},
    "vlm": {"data", "losses", "models", "recipe_io", "training"},
    "study": {"hub", "losses", "recipe_io"},
    "export": {"data", "evaluation", "models", "recipe_io", "vlm"},
}
# These travel to the Hub, alone: they name siblings only.
TRAVELS = "hf_clip_kd/models/timm_clip"
ONLY_TORCH = {"hf_clip_kd/losses/features.py", "hf_clip_kd/training/distributed.py"}


def imports(path, package_root):
    """(dotted module, line, whether relative) of every import in a file, wherever in the file it stands.

    `from X import a` gives X.a, since `a` may be a module.
    """
    package = path.relative_to(package_root.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno, node.level > 0) for alias in node.names)


def module_files(package):
    """Dotted name -> file, of every module in `package`; a folder's is that of its `__init__.py`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_module(name, modules):
    """The module of ours that an import of the dotted `name` runs: itself, or the one that holds the name."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def reached(modules, package):
    """Map each dotted name to all modules that it reaches, and each of them to the way, itself first."""
    direct = {
        name: {
            folder
            for target, _, _ in imports(path, package)
            if is_ours(target)
            for folder in with_folders(imported_module(target, modules))
            if folder in modules
        }
        - {name}
        for name, path in modules.items()
    }
    ways = {}
    for start in modules:
        ways[start], todo = {start: (start,)}, [start]
        while todo:
            here = todo.pop(0)
            for target in sorted(direct[here] - ways[start].keys()):
                ways[start][target] = (*ways[start][here], target)
                todo.append(target)
    return ways


def with_folders(name):
    """A module and the folders it is in, whose `__init__.py` its import runs, without the package's own root."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(2, len(parts) + 1)] or [name]


def is_ours(name):
    return name.split(".")[0] == "hf_clip_kd"


def room_of(name):
    """The folder of the package that a dotted name is in; `__init__` for the package's own names."""
    return (name.split(".") + ["__init__"])[1]


def downward(room):
    """All rooms that the design lets `room` reach, itself included."""
    return {room}.union(*(downward(other) for other in MAY_IMPORT[room]))


def violations(root):
    """One line for each import, name or length in `root`/hf_clip_kd and `root`/recipes that breaks the design."""
    package = root / "hf_clip_kd"
    modules = module_files(package)
    found = []
    for name, path in modules.items():
        where, room = path.relative_to(root), room_of(name)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            found.append(f"{where} has {lines} lines, {MAX_LINES} are allowed: split it by idea")
        if name == "hf_clip_kd":
            continue
        if room not in MAY_IMPORT or path.parent == package:
            found.append(
                f"{where}: the package's root holds the folders of MAY_IMPORT in tests/invariants/test_layers.py"
            )
            continue
        for target, line, relative in imports(path, package):
            top = target.split(".")[0]
            if top == "recipes":
                found.append(f"{where}:{line} imports a recipe")
            elif top == "hf_clip_kd":
                other = room_of(imported_module(target, modules))
                if path.parent == root / TRAVELS and not (
                    relative and target.startswith("hf_clip_kd.models.timm_clip.")
                ):
                    found.append(f"{where}:{line} imports {target}: what travels to the Hub imports siblings by `.`")
                elif other != room and other not in MAY_IMPORT[room]:
                    found.append(f"{where}:{line} {room} imports {other}")
            elif where.as_posix() in ONLY_TORCH and top != "torch" and top not in sys.stdlib_module_names:
                found.append(f"{where}:{line} imports {top}, torch is allowed")
    if found:
        return found + recipe_violations(root)
    for name, ways in reached(modules, package).items():
        if name != "hf_clip_kd":
            for target, way in ways.items():
                if room_of(target) not in downward(room_of(name)):
                    found.append(f"{modules[name].relative_to(root)} reaches {room_of(target)}: {' -> '.join(way)}")
    return found + recipe_violations(root)


def is_folder(path):
    return (path / "__main__.py").is_file()


def recipe_violations(root):
    found = []
    for path in sorted((root / "recipes").rglob("*.py")):
        siblings = {other.stem for other in path.parent.glob("*.py")}
        for name, line, relative in imports(path, root / "recipes"):
            # A recipe may be a folder, run by `python -m`: its files import each other by `.`.
            if name.split(".")[0] in siblings | {"recipes"} and not (relative and is_folder(path.parent)):
                found.append(f"{path.relative_to(root)}:{line} imports a recipe")
    return found


def test_package_follows_the_design():
    assert violations(ROOT) == []


def test_root_holds_the_twelve_rooms():
    entries = {path.name for path in (ROOT / "hf_clip_kd").iterdir() if path.name != "__pycache__"}
    assert entries == {*MAY_IMPORT, "__init__.py"} and len(MAY_IMPORT) == 12


@pytest.fixture(scope="module")
def ways():
    """All modules that each module of the package reaches, with the ways."""
    return reached(module_files(ROOT / "hf_clip_kd"), ROOT / "hf_clip_kd")


def test_distillation_never_reaches_evaluation(ways):
    rooms = {room_of(target) for target in ways["hf_clip_kd.distillation.trainer"]}
    assert "training" in rooms and not rooms & {"evaluation", "vlm", "study", "export", "__init__"}


def test_a_report_stands_on_estimates_and_these_on_cells(ways):
    study = "hf_clip_kd.study."
    reach = {floor: set() for floor in ("cells", "estimates", "report")}
    for name, targets in ways.items():
        floor = name.removeprefix(study).split(".")[0]
        if floor in reach:
            reach[floor] |= {target.split(".")[2] for target in targets if target.startswith(study)}
    assert reach == {
        "cells": {"cells"},
        "estimates": {"cells", "estimates"},
        "report": {"cells", "estimates", "report"},
    }


# Each breaks one rule; the last column is found in the one line that reports it.
PLANTED = [
    ("losses/new.py", "from ..distillation.trainer import Trainer", "new.py:1 losses imports distillation"),
    ("losses/new.py", "from .. import teachers", "losses imports teachers"),
    ("losses/new.py", "import hf_clip_kd.teachers.clip as t", "losses imports teachers"),
    ("losses/new.py", "from hf_clip_kd import CLIPTeacher", "losses imports __init__"),
    ("losses/new.py", "import hf_clip_kd", "losses imports __init__"),
    ("losses/deep/new.py", "from ...teachers import x", "losses imports teachers"),
    ("data/new.py", "def lazy():\n    from ..teachers.clip import CLIPTeacher", "new.py:2 data imports teachers"),
    ("distillation/new.py", "if True:\n    from ..evaluation.zero_shot import x", "distillation imports evaluation"),
    ("distillation/new.py", "from recipes import distill", "imports a recipe"),
    ("models/timm_clip/new.py", "from hf_clip_kd.models.loading import load_clip", "what travels to the Hub"),
    ("models/timm_clip/new.py", "from ..loading import load_clip", "what travels to the Hub"),
    ("losses/features.py", "import numpy as np", "features.py:1 imports numpy"),
    ("training/distributed.py", "import accelerate", "distributed.py:1 imports accelerate"),
    ("utils.py", "", "utils.py: the package's root"),
    ("misc/new.py", "", "misc/new.py: the package's root"),
    ("losses/long.py", "\n" * (MAX_LINES + 1), "has 301 lines"),
]
PLANTED = [(f"hf_clip_kd/{name}", *rest) for name, *rest in PLANTED] + [
    ("recipes/new.py", "from distill import main", "recipes/new.py:1 imports a recipe"),
    ("recipes/new.py", "from recipes.distill import main", "imports a recipe"),
    ("recipes/new.py", "from .distill import main", "imports a recipe"),
    ("recipes/folder/__main__.py", "from recipes import distill", "imports a recipe"),
]


@pytest.fixture
def tree(tmp_path):
    """A package that follows the design."""
    for name, code in {
        "hf_clip_kd/__init__.py": "from .distillation.trainer import DistillationTrainer",
        "hf_clip_kd/losses/__init__.py": "from .features import CLIPDims\nfrom .clip import CLIPLoss",
        "hf_clip_kd/losses/features.py": "import math\nimport torch.nn.functional as F",
        "hf_clip_kd/losses/clip.py": "import hf_clip_kd.losses.features",
        "hf_clip_kd/models/__init__.py": "",
        "hf_clip_kd/models/loading.py": "def lazy():\n    from . import tokenizer",
        "hf_clip_kd/models/tokenizer.py": "",
        "hf_clip_kd/models/timm_clip/__init__.py": "",
        "hf_clip_kd/teachers/__init__.py": "",
        "hf_clip_kd/teachers/clip.py": "from ..models.loading import load_clip",
        "hf_clip_kd/data/__init__.py": "",
        "hf_clip_kd/evaluation/zero_shot.py": "",
        "hf_clip_kd/recipe_io/parser.py": "",
        "hf_clip_kd/training/distributed.py": "import torch.distributed as dist",
        "hf_clip_kd/distillation/trainer.py": (
            "from ..training import distributed\nfrom ..teachers.clip import CLIPTeacher"
        ),
        "recipes/tables/__main__.py": "from .rows import row",
        "recipes/tables/rows.py": "row = ()",
        "recipes/distill.py": "import hf_clip_kd as kd\nfrom hf_clip_kd.recipe_io.parser import RecipeParser",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    return tmp_path


def test_clean_tree_passes(tree):
    assert violations(tree) == []


@pytest.mark.parametrize(("name", "code", "report"), PLANTED)
def test_planted_violation_is_found(tree, name, code, report):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(code)
    (line,) = violations(tree)
    assert report in line


def test_what_is_reached_through_allowed_imports_is_found(tree, monkeypatch):
    monkeypatch.setitem(MAY_IMPORT, "training", {"evaluation"})
    (tree / "hf_clip_kd/training/distributed.py").write_text("from ..evaluation import zero_shot")
    monkeypatch.setattr(f"{__name__}.downward", lambda room: {room, *MAY_IMPORT[room]})
    (line,) = violations(tree)
    assert "distillation/trainer.py reaches evaluation: hf_clip_kd.distillation.trainer -> " in line
