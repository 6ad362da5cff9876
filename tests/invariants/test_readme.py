"""README's blocks run. CONTRIBUTING.md says how a block is written; this file is the rule.

* ```python blocks are run in order, in one namespace, in an empty folder.
* ```bash blocks are checked here (targets, files and extras exist) and run by the slow test.
* A block below the line `<!-- test: slow -->` is left to the slow test, which runs the whole README in order.
* ```text is printed output, ```yaml and ```json are parsed, ```bibtex is left alone. There are no others.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SLOW = "<!-- test: slow -->"
LANGUAGES = {"python", "bash", "text", "yaml", "json", "bibtex"}
# Commands of a newcomer before the repository can be used. The slow test starts after them.
SET_UP = re.compile(r"^(git clone|cd|pip install|python3? -m venv|source|\.)\s")
# Runs blocks, given as JSON in a file, as a reader would: bash as commands, python in one namespace.
DRIVER = """
import json, subprocess, sys
namespace = {"__name__": "__main__"}
for block in json.load(open(sys.argv[1])):
    print(f"README.md:{block['line']}", flush=True)
    if block["language"] == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=True)
    else:
        exec(compile("\\n" * block["line"] + block["code"], "README.md", "exec"), namespace)
"""


@dataclass
class Block:
    language: str
    line: int
    code: str
    slow: bool


def read_blocks(text):
    """The fenced blocks of a Markdown text."""
    blocks, block, slow = [], None, False
    for number, line in enumerate(text.splitlines(), start=1):
        if block is None and line.startswith("```"):
            block = Block(language=line[3:].strip(), line=number, code="", slow=slow)
        elif block is not None and line.startswith("```"):
            blocks.append(block)
            block, slow = None, False
        elif block is not None:
            block.code += line + "\n"
        elif line.strip():
            slow = line.strip() == SLOW
    assert block is None, f"README.md:{block.line} opens a block that nothing closes"
    return blocks


def commands(code):
    """The commands of a bash block, one string each, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def problems(command, root):
    """Return the parts of a command that do not exist in the repository."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    found = []
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):(?!=)", (root / "Makefile").read_text(), re.MULTILINE)
        goals = [word for word in words[1:] if "=" not in word]
        found += [f"`make {goal}` is no target" for goal in goals if goal not in targets]
    elif words[:2] == ["pip", "install"]:
        extras = metadata("hf_clip_kd").get_all("Provides-Extra")
        named = [extra for word in words for match in re.findall(r"\[(.*)\]", word) for extra in match.split(",")]
        found += [f"pyproject.toml has no extra {extra!r}" for extra in named if extra not in extras]
    elif words[0] not in {"accelerate", "torchrun", "python", "git", "cd", "source", ".", "ls", "cat"}:
        found.append(f"{words[0]!r} is a command that this test does not know")
    for word in words:
        inside = word.split("/")[0] in {"recipes", "accelerate_configs", "hf_clip_kd", "tests", "model_cards"}
        if (inside or word in {"constraints.txt", "pyproject.toml"}) and not (root / word).exists():
            found.append(f"{word} does not exist")
    return found


def run(blocks, folder, timeout):
    (folder / "blocks.json").write_text(json.dumps([asdict(block) for block in blocks]))
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", DRIVER, "blocks.json"]
    done = subprocess.run(command, cwd=folder, env=env, timeout=timeout, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


README = read_blocks((ROOT / "README.md").read_text(encoding="utf-8"))


def test_readme_shows_commands_and_python():
    assert {"bash", "python"} <= {block.language for block in README} <= LANGUAGES


@pytest.mark.parametrize("block", README, ids=lambda block: f"line-{block.line}")
def test_block_is_sound(block):
    if block.language == "python":
        compile(block.code, f"README.md:{block.line}", "exec")
    elif block.language == "bash":
        assert [problem for command in commands(block.code) for problem in problems(command, ROOT)] == []
    elif block.language in ("yaml", "json"):
        assert yaml.safe_load(block.code) is not None


def test_python_blocks_run(tmp_path):
    run([block for block in README if block.language == "python" and not block.slow], tmp_path, timeout=240)


@pytest.mark.slow
def test_whole_readme_runs(tmp_path):
    installed = Path(sys.prefix) / ".installed"
    if not installed.exists():
        pytest.skip("needs the environment that `make install` creates; run `make test-all`")
    copy = tmp_path / "repository"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__"))
    (copy / ".venv").symlink_to(sys.prefix)
    blocks = [block for block in README if block.language in ("bash", "python")]
    for block in blocks:
        if block.language == "bash":
            block.code = "\n".join(command for command in commands(block.code) if not SET_UP.match(command))
    run(blocks, copy, timeout=3600)


SAMPLE = f"""# Title
```bash
make demo SEED=1  # four minutes
```
prints
```text
acc1 0.5
```
```python
x = 1
```
{SLOW}

```python
raise SystemExit(3)
```
```python
print("x is", x)
```
"""


def test_blocks_are_read_and_run(tmp_path):
    blocks = read_blocks(SAMPLE)
    assert [(b.language, b.line, b.slow) for b in blocks] == [
        ("bash", 2, False),
        ("text", 6, False),
        ("python", 9, False),
        ("python", 14, True),
        ("python", 17, False),
    ]
    assert "README.md:17\nx is 1\n" in run([blocks[2], blocks[4]], tmp_path, timeout=60)
    with pytest.raises(AssertionError):
        run([blocks[3]], tmp_path, timeout=60)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make demmo", "`make demmo` is no target"),
        ("make demo SEED=1", None),
        ("pip install -c constraints.txt -e '.[dev,deepspeed]'", None),
        ("pip install -e '.[gpu]'", "no extra 'gpu'"),
        ("HF_HUB_OFFLINE=1 python recipes/none.py", "recipes/none.py does not exist"),
        ("accelerate launch --config_file accelerate_configs/cpu.yaml x.py --output_dir outputs/x", None),
        ("accelerate launch --config_file accelerate_configs/gpu.yaml x.py", "accelerate_configs/gpu.yaml does not"),
        ("curl x", "'curl' is a command that this test does not know"),
    ],
)
def test_commands_are_checked(command, problem):
    found = problems(command, ROOT)
    assert found == [] if problem is None else problem in found[0]
