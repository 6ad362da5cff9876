"""The arrows of the design: which module of ours may import which, and how long a file may be."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 300

# Module or folder of hf_clip_kd -> what of ours it may import beside itself. A new module gets a row.
MAY_IMPORT = {
    "features": set(),
    "distributed": set(),
    "eval_mode": set(),
    "losses": {"features"},
    "models": set(),
    "open_clip_teacher": set(),
    "open_clip_tokens": {"models"},
    "open_clip_conversion": set(),
    "teacher_processor": set(),
    "teacher_base": {"checksum", "features"},
    "teacher_vision": {"models"},
    "teacher_loading": {"models", "open_clip_teacher", "teacher_processor", "teacher_vision"},
    "teacher": {
        "features",
        "models",
        "open_clip_tokens",
        "teacher_base",
        "teacher_loading",
        "teacher_processor",
        "teacher_vision",
    },
    "teacher_function": {"features", "teacher_base"},
    "teacher_ensemble": {"features", "teacher", "teacher_base"},
    "inherit": {"models", "open_clip_conversion"},
    "evaluation": {"data", "eval_mode", "features", "models", "open_clip_tokens", "teacher", "teacher_vision"},
    "data": set(),
    "parser": {"argument_types"},
    "argument_types": set(),
    "sharded": set(),
    "bounded_scales": set(),
    "engines": set(),
    "scaling": set(),
    "teacher_sharding": {"distributed", "features", "teacher_base", "teacher_ensemble"},
    "batch_fit": {"distributed", "grad_cache"},
    "training_args": {"engines", "average", "checkpoint_arguments", "guards"},
    "guards": {"distributed"},
    "alarms": set(),
    "loss_parts": set(),
    "average": {"distributed", "sharded"},
    "watching": set(),
    "exact_data": set(),
    "checkpoint_arguments": set(),
    "checkpoint_files": set(),
    "run_identity": set(),
    "checkpoints": {"checkpoint_files", "distributed", "run_identity"},
    "stopping": {"checkpoints", "distributed"},
    "model_card": {"evaluation", "losses"},
    "run_cost": {"evaluation", "models", "vlm"},
    "hub": set(),
    "hub_run": {"hub", "model_card"},
    "hub_trainer": {"hub_run"},
    "grad_cache": {"features", "losses", "distributed"},
    "teacher_cache": {"features", "checksum"},
    "checksum": set(),
    "distillation_model": {"features", "losses", "models", "distributed", "sharded"},
    "trainer": {
        "batch_fit",
        "bounded_scales",
        "engines",
        "sharded",
        "teacher_sharding",
        "alarms",
        "average",
        "loss_parts",
        "guards",
        "watching",
        "teacher",
        "teacher_base",
        "teacher_ensemble",
        "teacher_cache",
        "losses",
        "grad_cache",
        "distributed",
        "distillation_model",
        "exact_data",
        "stopping",
        "features",
        "training_args",
        "hub_trainer",
    },
    "vlm": {
        "eval_mode",
        "engines",
        "alarms",
        "guards",
        "watching",
        "checkpoint_arguments",
        "stopping",
        "hub_trainer",
        "models",
        "data",
        "checksum",
        "open_clip_conversion",
        "open_clip_teacher",
    },
    "lmms": {"evaluation"},
    "study": {"evaluation", "losses", "model_card", "watching"},
    "export": {"features", "models", "data", "evaluation", "vlm"},
    "import_checkpoint": {"models", "export", "open_clip_conversion"},
    "__init__": None,  # everything
}
ONLY_TORCH = {"features", "distributed"}


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


def violations(root):
    """One line for each import, name or length in `root`/hf_clip_kd and `root`/recipes that breaks the design."""
    package = root / "hf_clip_kd"
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.relative_to(package).parts[0].removesuffix(".py")
        where = path.relative_to(root)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            found.append(f"{where} has {lines} lines, {MAX_LINES} are allowed: split it by idea")
        if source not in MAY_IMPORT:
            found.append(f"{where}: {source} has no row in MAY_IMPORT of tests/test_layers.py")
            continue
        for name, line, relative in imports(path, package):
            top, *rest = name.split(".")
            if top == "recipes":
                found.append(f"{where}:{line} imports a recipe")
            elif top == "hf_clip_kd":
                # A name that is no module comes out of the package's __init__, which imports everything.
                target = rest[0] if rest and rest[0] in modules else "__init__"
                allowed = MAY_IMPORT[source]
                if source == "models" and not relative:
                    found.append(f"{where}:{line} names hf_clip_kd: models travel to the Hub, import siblings by `.`")
                elif allowed is not None and target != source and target not in allowed:
                    found.append(f"{where}:{line} {source} imports {target}")
            elif source in ONLY_TORCH and top != "torch" and top not in sys.stdlib_module_names:
                found.append(f"{where}:{line} {source} imports {top}, torch is allowed")
    for path in sorted((root / "recipes").rglob("*.py")):
        siblings = {other.stem for other in path.parent.glob("*.py")}
        for name, line, _ in imports(path, root / "recipes"):
            if name.split(".")[0] in siblings | {"recipes"}:
                found.append(f"{path.relative_to(root)}:{line} imports a recipe")
    return found


def test_package_follows_the_design():
    assert violations(ROOT) == []


# Each breaks one rule; the last column is found in the one line that reports it.
PLANTED = [
    ("hf_clip_kd/losses/new.py", "from ..trainer import DistillationTrainer", "new.py:1 losses imports trainer"),
    ("hf_clip_kd/losses/new.py", "from .. import teacher", "losses imports teacher"),
    ("hf_clip_kd/losses/new.py", "import hf_clip_kd.teacher as t", "losses imports teacher"),
    ("hf_clip_kd/losses/new.py", "from hf_clip_kd import CLIPTeacher", "losses imports __init__"),
    ("hf_clip_kd/losses/new.py", "import hf_clip_kd", "losses imports __init__"),
    ("hf_clip_kd/losses/deep/new.py", "from ...teacher import x", "losses imports teacher"),
    ("hf_clip_kd/data/new.py", "def lazy():\n    from ..parser import RecipeParser", "new.py:2 data imports parser"),
    ("hf_clip_kd/trainer.py", "if True:\n    from .evaluation.zero_shot import x", "trainer imports evaluation"),
    ("hf_clip_kd/trainer.py", "from recipes import distill", "imports a recipe"),
    ("hf_clip_kd/models/new.py", "from hf_clip_kd.models.loading import load_clip", "models travel to the Hub"),
    ("hf_clip_kd/models/new.py", "from ..features import pooled", "models imports features"),
    ("hf_clip_kd/features.py", "import numpy as np", "features imports numpy"),
    ("hf_clip_kd/distributed.py", "import accelerate", "distributed imports accelerate"),
    ("hf_clip_kd/utils.py", "", "utils has no row"),
    ("hf_clip_kd/losses/long.py", "\n" * (MAX_LINES + 1), "has 301 lines"),
    ("recipes/new.py", "from distill import main", "recipes/new.py:1 imports a recipe"),
    ("recipes/new.py", "from recipes.distill import main", "imports a recipe"),
]


@pytest.fixture
def tree(tmp_path):
    """A package that follows the design."""
    for name, code in {
        "hf_clip_kd/__init__.py": "from .trainer import DistillationTrainer",
        "hf_clip_kd/features.py": "import math\nimport torch.nn.functional as F",
        "hf_clip_kd/distributed.py": "import torch.distributed as dist",
        "hf_clip_kd/losses/__init__.py": "from ..features import CLIPDims\nfrom .clip import CLIPLoss",
        "hf_clip_kd/losses/clip.py": "import hf_clip_kd.features",
        "hf_clip_kd/models/loading.py": "def lazy():\n    from . import tokenizer",
        "hf_clip_kd/models/tokenizer.py": "",
        "hf_clip_kd/teacher.py": "from .models.loading import load_clip",
        "hf_clip_kd/data/collator.py": "",
        "hf_clip_kd/evaluation/zero_shot.py": "",
        "hf_clip_kd/parser.py": "",
        "hf_clip_kd/trainer.py": "from . import distributed, losses\nfrom .teacher import CLIPTeacher",
        "recipes/distill.py": "import hf_clip_kd as kd\nfrom hf_clip_kd.parser import RecipeParser",
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
