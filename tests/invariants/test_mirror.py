"""The tests mirror the package: each stands where its source stands, and imports no other test."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
HELPERS = TESTS / "helpers"
# Folders of tests that have no one source.
OTHERS = {"bench", "fuzz", "gpu", "helpers", "invariants", "peers", "survival"}
FILES = sorted(TESTS.rglob("*.py"))


def rooms():
    """Return the folders of sources by the name of their folder of tests."""
    folders = [path for path in (ROOT / "hf_clip_kd").iterdir() if (path / "__init__.py").is_file()]
    return {path.name: path for path in [*folders, ROOT / "recipes"]}


def sources(test):
    """Return the file and the folder that a test may be of, as far as they exist."""
    room, *folders, name = test.relative_to(TESTS).with_suffix("").parts
    source = rooms()[room].joinpath(*folders, name.removeprefix("test_"))
    return [path for path in (source.with_suffix(".py"), source) if path.exists()]


@cache
def nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path):
    """Return the dotted names of the modules that a file imports."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def named(path):
    """Return the modules that a file imports, and those of dotted names in its strings, such as "module.Class"."""
    strings = [node.value for node in nodes(path) if is_string(node)]
    return {name.split(".")[0] for name in imported(path)} | {text.split(".")[0] for text in strings if "." in text}


def is_string(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_folders_are_rooms_of_the_package():
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders - OTHERS <= set(rooms())


MIRRORED = [path for path in FILES if path.name.startswith("test_") and path.relative_to(TESTS).parts[0] not in OTHERS]


@pytest.mark.parametrize("test", MIRRORED, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_stands_where_its_source_stands(test):
    assert len(sources(test)) == 1, (
        f"{test.relative_to(ROOT)} is the test of {len(sources(test))} sources. A test in a room has the name of one "
        "file or folder at the same place in hf_clip_kd/ or recipes/. Move it there, or to tests/invariants/."
    )


def test_no_test_imports_a_test():
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in FILES
        for name in imported(path)
        if any(part.startswith("test_") for part in name.split("."))
    ]
    assert wrong == []


def test_every_helper_is_used():
    used = {path: named(path) for path in FILES}
    for helper in HELPERS.glob("*.py"):
        assert any(helper.stem in names for path, names in used.items() if path != helper), (
            f"{helper.name} is not used"
        )


def test_helpers_hold_no_tests():
    assert [path.name for path in HELPERS.glob("test_*.py")] == []
