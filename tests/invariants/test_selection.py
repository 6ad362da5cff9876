"""Parts of the tests are disjoint and whole, and a skip has a reason that is allowed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"

PARTED = """
import pytest

@pytest.fixture(scope="module", params=["x", "y", "z"])
def engine(request):
    return request.param

def test_a(engine): pass

def test_b(engine): pass

@pytest.mark.parametrize("n", range(4))
def test_c(n): pass
"""

SKIPPED = """
import pytest

def test_runs(): pass

@pytest.mark.skipif(True, reason="needs a GPU")
def test_on_a_gpu(): pass

def test_in_its_own_environment():
    pytest.skip("needs lmms-eval: no module")

@pytest.mark.xfail
def test_that_fails(): assert False
"""


def run(folder, source, *options):
    (folder / "test_it.py").write_text(source)
    environment = os.environ | {"PYTHONPATH": str(HELPERS)}
    command = [sys.executable, "-m", "pytest", "-p", "selection", "-p", "no:cacheprovider", "-rs", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_parts_are_disjoint_and_whole_and_keep_a_shared_fixture_together(tmp_path):
    parts = [
        re.findall(r"::(\S+)", run(tmp_path, PARTED, "--collect-only", "-q", "--part", f"{part}/3").stdout)
        for part in (1, 2, 3)
    ]
    together = sorted(name for part in parts for name in part)
    assert together == sorted(
        [f"test_{test}[{value}]" for test in "ab" for value in "xyz"] + [f"test_c[{n}]" for n in range(4)]
    )
    for part in parts:
        assert len(part) > 1 and len({name[7] for name in part if not name.startswith("test_c")}) == 1


@pytest.mark.parametrize("part", ["0/3", "4/3"])
def test_a_part_that_is_none(part, tmp_path):
    done = run(tmp_path, PARTED, "--part", part)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--part {part} is none of 3 parts. Parts are 1/3 to 3/3." in done.stderr


def test_allowed_skips_are_listed_and_pass(tmp_path):
    done = run(tmp_path, SKIPPED)
    assert done.returncode == 0 and "1 passed, 2 skipped, 1 xfailed" in done.stdout
    assert "needs a GPU" in done.stdout and "needs lmms-eval: no module" in done.stdout


@pytest.mark.parametrize(
    "skip",
    [
        "@pytest.mark.skip(reason='needs time')\ndef test_it(): pass",
        "def test_it(): pytest.skip('needs time')",
        "pytest.skip('needs time', allow_module_level=True)",
        "pytest.importorskip('no_such_module', reason='needs time')",
    ],
)
def test_any_other_skip_fails(skip, tmp_path):
    done = run(tmp_path, f"import pytest\n\n{skip}\n")
    assert done.returncode != 0 and "is skipped: 'needs time'. A reason may begin with one of" in done.stdout
