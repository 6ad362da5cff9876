"""Instructions of CONTRIBUTING.md, each followed in a copy of the repository, by its own files and commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks_of, commands, problems, read_blocks

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Section -> the files that one touches by hand.
HOW_TOS = {
    "Add a loss": 2,
    "Add a student": 1,
    "Add a kind of teacher": 2,
    "Add a VQA benchmark": 3,
    "Add a statistic": 1,
}
COPIED = ("hf_clip_kd", "tests", "recipes", "docs", "README.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile")
NEW_FILE = re.compile(r"<!-- new file: (\S+) -->")
ADD_TO = re.compile(r"<!-- add to: (\S+), below: (.*) -->")
TRY = "<!-- try -->"


def steps(section):
    """Return (the marker above it, block) of each block of a how-to."""
    text = re.split(r"^## ", TEXT.split(f"## {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = text.splitlines()
    return [(lines[block.line - 2].rstrip(), block) for block in read_blocks(text, "CONTRIBUTING.md")]


def touched(section):
    """Return the files that a how-to names in its markers."""
    found = [NEW_FILE.fullmatch(marker) or ADD_TO.fullmatch(marker) for marker, _ in steps(section)]
    return {match[1] for match in found if match}


def plant(section, root):
    """Write the files of a how-to into a copy of the repository."""
    for marker, block in steps(section):
        if match := NEW_FILE.fullmatch(marker):
            path = root / match[1]
            assert not path.exists(), f"{match[1]} is in the repository: the how-to needs another example"
            path.write_text(block.code, encoding="utf-8")
        elif match := ADD_TO.fullmatch(marker):
            path, anchor = root / match[1], match[2].replace("\\n", "\n") + "\n"
            text = path.read_text(encoding="utf-8")
            assert text.count(anchor) == 1, f"{match[1]} has {text.count(anchor)} times {anchor!r}"
            path.write_text(text.replace(anchor, anchor + block.code), encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    return root


def execute(root, command):
    """Run a shell command in a copy of the repository, with the copy's package."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(root), "PATH": path}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=root, env=env, timeout=300, capture_output=True, text=True
    )
    return done.returncode, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def test_all_how_tos_are_here():
    assert [title for title in re.findall(r"^## (Add .*)$", TEXT, re.MULTILINE)] == list(HOW_TOS)


def test_the_first_commands_exist():
    assert [
        problem for command in commands(blocks_of("CONTRIBUTING.md")[0].code) for problem in problems(command)
    ] == []


@pytest.mark.parametrize("section", HOW_TOS)
def test_how_to_names_its_files_and_is_good_style(section, copy):
    assert len(touched(section)) == HOW_TOS[section]
    plant(section, copy)
    files = " ".join(name for name in touched(section) if name.endswith(".py"))
    if files:
        code, output = execute(copy, f"ruff check {files} && ruff format --check {files}")
        assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("section", HOW_TOS)
def test_how_to_works(section, copy):
    plant(section, copy)
    for marker, block in steps(section):
        if block.language == "bash":
            written, *rest = commands(block.code)
            if written.startswith("python -m recipes.maintenance.tables"):
                # A forgotten command is told.
                code, output = execute(copy, f"{written} --check")
                assert code == 1 and "Run `python -m recipes.maintenance.tables`" in output
            for command in (written, *rest):
                code, output = execute(copy, command)
                assert code == 0, output
        elif marker == TRY:
            (copy / "try.py").write_text(block.code)
            code, output = execute(copy, "python try.py")
            assert code == 0, output
