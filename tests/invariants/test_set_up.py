"""The files around the package: what is installed, how it is launched, what `make` offers."""

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def test_constraints_hold_names_and_versions_only():
    assert [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin)] == []
    assert PINS == sorted(PINS, key=str.lower)


@pytest.mark.parametrize("requirement", [Requirement(text) for text in requires("hf_clip_kd")], ids=str)
def test_every_dependency_is_bounded_and_pinned_within_its_bounds(requirement):
    assert requirement.specifier, "has no bounds in pyproject.toml"
    pins = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in PINS)}
    if requirement.marker is None or requirement.marker.evaluate({"extra": "dev"}):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("path", sorted((ROOT / "accelerate_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    config = load_config_from_file(str(path))  # raises on unknown keys
    assert config.mixed_precision == "no"  # the recipe decides
    assert config.use_cpu == path.stem.endswith("cpu")
    assert str(path.relative_to(ROOT)) in path.read_text().split("compute_environment")[0]  # says how it is used


def test_make_lists_its_targets():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "demo",
        "test",
        "test-slow",
        "test-engines",
        "test-peers",
        "test-all",
        "check",
        "style",
        "bench",
        "clean",
    ):
        assert re.search(rf"^make {target} +\w", listed, re.MULTILINE)


def test_make_bench_goes_on_after_a_benchmark_that_fails(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/ran\ntest "$1" != b.py\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "bench", "-o", ".venv/.installed", f"BIN={tmp_path}"]
    run = subprocess.run([*command, "BENCHES=a.py b.py c.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode and run.stdout.strip() == "These failed: b.py"
    table = "recipes/maintenance/speed_table.py"
    assert (tmp_path / "ran").read_text().split() == ["a.py", "b.py", "c.py", table]
    assert subprocess.run([*command, "BENCHES=a.py"], cwd=ROOT).returncode == 0
