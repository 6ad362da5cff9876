"""Transformers' common model tests on our classes, and the strictness of the table of exclusions."""

import subprocess
from importlib.metadata import version

import peer_suites
import pytest
from peer_suites import SUITES, read_exclusions, run_suite, surprises, transformers_source


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_common_model_tests(suite, tmp_path):
    outcomes = run_suite(suite, transformers_source(), tmp_path)
    assert surprises(outcomes, read_exclusions(suite)) == []


@pytest.mark.parametrize("suite", SUITES)
def test_every_exclusion_has_a_reason(suite):
    excluded = read_exclusions(suite)
    assert excluded and all(test.startswith("test_") for test in excluded)
    assert all(len(reason.split()) > 3 and reason.endswith(".") for reason in excluded.values())


@pytest.mark.parametrize(
    ("outcome", "excluded", "found"),
    [
        ("passed", False, None),
        ("skipped", False, None),
        ("failed", True, None),
        ("failed", False, "test_a fails: why"),
        ("passed", True, "test_a is passed, and its line excludes it: remove the line"),
        ("skipped", True, "test_a is skipped, and its line excludes it: remove the line"),
    ],
)
def test_an_unexpected_outcome_is_red(outcome, excluded, found):
    outcomes = {"test_a": [outcome, "why"], "test_b": ["passed", ""]}
    lines = surprises(outcomes, {"test_a": "A reason."} if excluded else {}, least_passed=1)
    assert lines == ([] if found is None else [found])


def test_a_line_for_no_test_and_a_suite_of_skips_are_red():
    assert surprises({}, {"test_gone": "A reason."}, least_passed=0) == [
        "test_gone is excluded, and there is no such test"
    ]
    assert surprises({"test_a": ["skipped", ""]}, {}) == ["0 tests pass, at least 80 must"]


def test_source_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_suites, "CACHE", tmp_path)
    failed = subprocess.CompletedProcess([], 1, "", "no index")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(
        AssertionError, match=r"pip could not get transformers==.* \(no index\).* Run `make test-peers`"
    ):
        transformers_source()
    assert list(tmp_path.iterdir()) == []
    folder = tmp_path / f"transformers-{version('transformers')}"
    folder.mkdir()
    assert transformers_source() == folder
