"""Transformers' common model tests on our classes: get them, run them, and compare with the table of exclusions."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "tests/peers"
CACHE = ROOT / "outputs/peers"
# The model tests import it, and nothing else here does.
PARAMETERIZED = "parameterized==0.9.0"
MODELS, TRUNKS = ("tower", "dual_encoder"), ("vit", "conv", "hybrid")
SUITES = [f"{model}-{trunk}" for model in MODELS for trunk in TRUNKS]
# A suite in which nearly all tests skip themselves would prove nothing.
LEAST_PASSED = 80


def transformers_source():
    """
    Return the folder of transformers' source distribution of the installed version, which has its common model tests.

    pip downloads it once and compares its checksum with the index. Later calls need no network.
    """
    name = f"transformers-{version('transformers')}"
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fetched:
            pip("download", "--dest", fetched, "--no-binary", "transformers", name.replace("-", "=="))
            with tarfile.open(Path(fetched, f"{name}.tar.gz")) as archive:
                archive.extractall(fetched, filter="data")
            source = Path(fetched, name)
            assert f"\nVersion: {version('transformers')}\n" in (source / "PKG-INFO").read_text(encoding="utf-8")
            pip("install", "--target", source / "packages", PARAMETERIZED)
            # A package `tests` anywhere on the path would come before a folder without this file.
            (source / "tests/__init__.py").touch()
            try:
                source.rename(folder)
            except OSError:  # Another worker was faster.
                assert folder.exists()
    return folder


def pip(command, *arguments):
    command = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, (
        f"pip could not get {arguments[-1]} ({run.stderr.strip()}). What the tests compare with must lie in {CACHE}. "
        "Run `make test-peers` once where a package index can be reached."
    )


def run_suite(suite, source, folder):
    """Run a suite in a process of its own. Return `{test: [passed, failed or skipped, reason]}`."""
    path = [source, source / "packages", ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    # The outcomes of the table are those of a CPU.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, PEERS / "model_suite.py", suite, folder / "outcomes.json"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))


def read_exclusions(suite):
    """Return `{test: reason}`: the lines for the model on every trunk, and those for this trunk."""
    table = yaml.safe_load((PEERS / "exclusions.yaml").read_text(encoding="utf-8"))
    return table.get(suite.partition("-")[0], {}) | table.get(suite, {})


def surprises(outcomes, excluded, least_passed=LEAST_PASSED):
    """Return a line for each test that does not do what the table says, or `[]`."""
    found = []
    for test, (outcome, reason) in outcomes.items():
        if outcome == "failed" and test not in excluded:
            found.append(f"{test} fails: {reason}")
        elif outcome != "failed" and test in excluded:
            found.append(f"{test} is {outcome}, and its line excludes it: remove the line")
    found += [f"{test} is excluded, and there is no such test" for test in excluded if test not in outcomes]
    passed = sum(outcome == "passed" for outcome, _ in outcomes.values())
    if passed < least_passed:
        found.append(f"{passed} tests pass, at least {least_passed} must")
    return found
