"""The studies in model_cards/: their reports come out of their JSONs again, and what README says stands in them."""

import json
import re
from pathlib import Path

import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.findings import findings
from hf_clip_kd.study.report.reproduction import write_reproduction
from hf_clip_kd.study.report.summary import summary

ROOT = Path(__file__).parents[2]
STUDIES = {path.parent.name: path.parent for path in sorted((ROOT / "model_cards").glob("*/study.json"))}
AGAIN = {name: folder for name, folder in STUDIES.items() if (folder / "again").is_dir()}
PAGES = [
    # page, its mark, and how many numbers it has at least
    ("README.md", "study", 9),
    ("docs/study.md", "study", 20),
    ("docs/objectives.md", "study: answer", 20),
    ("docs/study.md", "study: defects", 60),
]


def _study(folder: Path):
    """Return the parameter of a study. Intervals of hundreds of cells take a quarter of a minute."""
    large = len(list((folder / "cells").iterdir())) > 100
    return pytest.param(folder, id=folder.name, marks=[pytest.mark.slow] if large else [])


@pytest.fixture(scope="module", params=map(_study, STUDIES.values()))
def folder(request):
    return request.param


@pytest.fixture(scope="module")
def study(folder):
    return read_study(folder)


def flat(value, path=""):
    """Path in a JSON to the leaf there."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, child in items for name, leaf in flat(child, f"{path}/{key}").items()}
    return {path: value}


def test_it_is_whole(folder, study):
    assert study.failed == [] and study.missing == 0 and study.record["procedural"]
    assert {path.stem for path in (folder / "cells").iterdir()} == set(study.record["cells"])
    text = "".join(path.read_text() for path in folder.rglob("*.json"))
    assert not re.search(r'"[^"]*(?<![\w.])/(tmp|home|root|work|Users)/', text), "a local path"


def test_its_numbers_come_out_again(folder, study):
    assert flat(summary(study)) == pytest.approx(flat(json.loads((folder / "summary.json").read_text())), abs=1e-5)
    report = (folder / "report.md").read_text()
    assert all(finding in report for finding in findings(study))


@pytest.mark.parametrize("first", AGAIN.values(), ids=AGAIN)
def test_the_second_run_is_compared_with_it(first, tmp_path):
    (tmp_path / "summary.json").write_text((first / "summary.json").read_text())
    _, text = write_reproduction(tmp_path, first / "again")
    assert text == (first / "reproduction.md").read_text()


@pytest.mark.parametrize(("page", "mark", "least"), PAGES, ids=[f"{page} {mark}" for page, mark, _ in PAGES])
def test_documents_say_what_was_found(page, mark, least):
    """Every number of their sentences stands in a report or in the comparison with a second run."""
    said = (ROOT / page).read_text().split(f"<!-- {mark} -->")[1].split("<!-- end of study -->")[0]
    known = "".join(path.read_text() for folder in STUDIES.values() for path in folder.glob("re*.md"))
    numbers = re.findall(r"[+−]?\d+\.\d+", said)
    assert len(numbers) >= least and [number for number in numbers if number not in known] == []
    assert all((ROOT / page).parent.joinpath(figure).is_file() for figure in re.findall(r'"([^"]+svg)"', said))
