"""The studies in model_cards/: their reports come out of their JSONs again, and what README says stands in them."""

import json
import re
from pathlib import Path

import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.estimates.objectives import FEWEST_TEACHERS
from hf_clip_kd.study.report.ablation import ablation_table
from hf_clip_kd.study.report.findings import findings
from hf_clip_kd.study.report.reproduction import write_reproduction
from hf_clip_kd.study.report.summary import summary
from recipes.maintenance.ablation_table import MARKED, pages

ROOT = Path(__file__).parents[2]
STUDIES = {path.parent.name: path.parent for path in sorted((ROOT / "model_cards").glob("*/study.json"))}
AGAIN = {name: folder for name, folder in STUDIES.items() if (folder / "again").is_dir()}
PAGES = [
    # page, its mark, the study that it is about, and how many numbers with an interval it has at least
    ("README.md", "study", "answer", 9),
    ("docs/study.md", "study", "miniature", 10),
    ("docs/objectives.md", "study: answer", "answer", 50),
    ("docs/study.md", "study: defects", "defects", 30),
]
NUMBER, BETWEEN = r"[+−]?\d+\.\d+", r"[^\d\[]{0,40}"
INTERVAL = rf"\[{NUMBER}, {NUMBER}\]"


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


def section(page, mark):
    return (ROOT / page).read_text().split(f"<!-- {mark} -->")[1].split("<!-- end of study -->")[0]


def reports(names):
    """The reports of some studies and their comparisons with a second run, without line ends."""
    paths = [path for name in sorted(names) for path in STUDIES[name].glob("re*.md")]
    return " ".join(" ".join(path.read_text().split()) for path in paths)


def missing(passage, known):
    """
    Numbers, numbers with their interval, and counts (`3 of 4`) of a passage that the reports lack.

    Nearly each number of two digits stands somewhere in a long report. So an interval must stand beside its number.
    """
    counts = [rf"(?<!\d){count}(?!\d)" for count in re.findall(r"(?<![\d.])\d+ of \d+(?!\.?\d)", passage)]
    numbers = [rf"(?<!\d)(?<!\d\.){re.escape(number)}(?!\.?\d)" for number in re.findall(NUMBER, passage)]
    pairs = re.findall(rf"({NUMBER}){BETWEEN}({INTERVAL})", passage)
    numbers += [rf"(?<!\d){re.escape(number)}{BETWEEN}{re.escape(interval)}" for number, interval in pairs]
    return [pattern for pattern in (*numbers, *counts) if not re.search(pattern, known)]


@pytest.mark.parametrize(("page", "mark", "name", "least"), PAGES, ids=[f"{page} {mark}" for page, mark, *_ in PAGES])
def test_documents_say_what_was_found(page, mark, name, least):
    """Numbers stand in the report of the page's study, or in those that the same passage has a link to."""
    said, found = section(page, mark), 0
    for passage in re.split(r"\n(?=- |\n)", said):
        names = {name, *re.findall(r"model_cards/(\w+)/\w+\.md", passage)}
        text = " ".join(re.sub(r"\]\([^)]*\)", "]", passage).split())
        assert missing(text, reports(names)) == [], passage
        found += len(re.findall(rf"{NUMBER}{BETWEEN}{INTERVAL}", text))
    assert found >= least
    assert all((ROOT / page).parent.joinpath(figure).is_file() for figure in re.findall(r'"([^"]+svg)"', said))


@pytest.mark.parametrize("wrong", ["0.33 [+0.21, +0.43]", "+0.32 [−0.21, +0.43]", "7.77", "28 of 29", "1.0"])
def test_a_wrong_number_is_found(wrong):
    known = "gives 0.32 of its lead [+0.21, +0.43], 0.33 of another, 11.05 and 1.00 %. 29 of 29 and 128 of 29 agree."
    assert missing(wrong, known) and missing("0.32 [+0.21, +0.43], 11.05 in 29 of 29", known) == []


# ---- Table of docs/objectives.md ----

SUMMARY = json.loads((STUDIES["answer"] / "summary.json").read_text())
SCORES = {
    "slope": ("VQA accuracy, tiny", "slope"),
    "share of the lead": ("VQA accuracy, tiny", "share"),
    "the same, `second`": ("VQA accuracy, second", "share"),
    "in the probe": ("question probe", "share"),
    "in zero-shot": ("zero-shot accuracy", "share"),
}


def objective_rows():
    lines = [line for line in section("docs/objectives.md", "study: answer").splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def slope_teachers(objective):
    """Number of the teachers of equal size, by the names of the cells."""
    cells = json.loads((STUDIES["answer"] / "study.json").read_text())["cells"]
    found = {match[1] for cell in cells if (match := re.match(rf"(\w+?)_vit-t_{objective}_x4_plain_tiny_s", cell))}
    return len(found - {"XL", "alone"})


def test_each_cell_of_the_table_of_objectives_is_in_the_summary():
    rows = objective_rows()
    assert set(rows) == set(SUMMARY["objectives"]["VQA accuracy, tiny"])
    for objective, row in rows.items():
        teachers = slope_teachers(objective)
        assert row["teachers"] == (str(teachers) if teachers else "–"), objective
        expected = {
            column: SUMMARY["objectives"][score].get(objective, {}).get(key) for column, (score, key) in SCORES.items()
        }
        if teachers < FEWEST_TEACHERS:
            expected["slope"] = None
        of_x = f"X, vit-t, {objective}, x4, plain, tiny, default"
        expected["of the lead of `X`"] = SUMMARY["leads"]["VQA accuracy"].get(of_x)
        for column, estimate in expected.items():
            numbers = [float(number.replace("−", "-")) for number in re.findall(NUMBER, row[column])]
            known = [] if estimate is None else [estimate[name] for name in ("value", "low", "high")]
            assert numbers == pytest.approx(known, abs=0.00501), (objective, column)
        strongest = SUMMARY["objectives"]["VQA accuracy, tiny"][objective]["strongest"]
        assert strongest is None or row["share of the lead"].endswith(f"of `{strongest}`"), objective


def test_the_table_of_the_ablation_comes_out_again():
    (page,) = pages()
    written = MARKED.search(page.read_text(encoding="utf-8"))[2]
    assert written == ablation_table(read_study(STUDIES["ablation"])) + "\n"
