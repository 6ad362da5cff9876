"""The documents of the repository, their fenced blocks, and a way to run the blocks as a reader would."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SLOW = "<!-- test: slow -->"
FOLDERS = {"accelerate_configs", "docs", "hf_clip_kd", "model_cards", "recipes", "tests"}
COMMANDS = {"accelerate", "torchrun", "python", "git", "cd", "source", ".", "ls", "cat"}
# This program runs the blocks of pages, given as JSON in a file. Bash blocks are commands. Python blocks of a page
# share a namespace and a folder.
DRIVER = """
import json, os, subprocess, sys
for folder, blocks in json.load(open(sys.argv[1])):
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        print(f"{block['page']}:{block['line']}", flush=True)
        if block["language"] == "bash":
            subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=True)
        else:
            exec(compile("\\n" * block["line"] + block["code"], block["page"], "exec"), namespace)
"""


@dataclass
class Block:
    page: str
    language: str
    line: int
    code: str
    slow: bool


def read_blocks(text, page="page.md"):
    """Return the fenced blocks of a Markdown text; a block within a list is indented."""
    blocks, block, slow = [], None, False
    for number, line in enumerate(text.splitlines(), start=1):
        if block is None and line.startswith("```"):
            block = Block(page, language=line[3:].strip(), line=number, code="", slow=slow)
        elif block is not None and line.startswith("```"):
            blocks.append(block)
            block, slow = None, False
        elif block is not None:
            block.code += line + "\n"
        elif line.strip():
            slow = line.strip() == SLOW
    assert block is None, f"{page}:{block.line} opens a block that nothing closes"
    return blocks


def blocks_of(page, root=ROOT):
    return read_blocks((root / page).read_text(encoding="utf-8"), page)


def commands(code):
    """Return the commands of a bash block, one string each, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def problems(command, root=ROOT):
    """Name each part of a command that does not exist in the repository."""
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
    elif words[0] not in COMMANDS:
        found.append(f"{words[0]!r} is a command that this test does not know")
    for word in words:
        inside = word.split("/")[0] in FOLDERS
        if (inside or word in {"constraints.txt", "pyproject.toml"}) and not (root / word).exists():
            found.append(f"{word} does not exist")
    return found


def run(pages, folder, timeout):
    """Run `pages`, a list of a folder and its blocks, in one process, and return its output."""
    plan = folder / "blocks.json"
    plan.write_text(json.dumps([[str(where), [asdict(block) for block in blocks]] for where, blocks in pages]))
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", DRIVER, str(plan)]
    done = subprocess.run(command, cwd=folder, env=env, timeout=timeout, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
