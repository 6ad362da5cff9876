"""The table of losses alone and with the task, made of cells with known scores."""

import json
import re
from statistics import mean, stdev

import made_up_study as made_up
import numpy as np
import pytest
from report_texts import write_and_read
from scipy import stats

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.ablation import ablation_table, gains_over, objective_pairs

SCORES = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")
OBJECTIVES = {
    "clip": {"clip": {"weight": 1.0}},
    "crd": {"crd": {"weight": 1.0}},
    "clip+crd": {"clip": {"weight": 1.0}, "crd": {"weight": 1.0}},
    "tinyclip": "tinyclip",
    "clip_kd": "clip_kd",
}


def cells(objective, scores):
    """One cell for each score, which is that of all three metrics; `None` failed."""
    found = []
    for seed, score in enumerate(scores):
        axes = {
            "teacher": None if objective == "clip" else "L",
            "student": "small",
            "objective": objective,
            "duration": "x1",
            "data": "shapes",
            "seed": seed,
            "language_model": None,
        }
        cell = {"id": f"{objective}-{seed}", "axes": axes, "epochs": 0.9, "steps": 225, "cost": {}, "vqa": {}}
        cell |= {"status": "done", "student": dict.fromkeys(SCORES, score)}
        if score is None:
            cell |= {"status": "failed", "student": {}, "error": "student-1: exit code 1: ValueError: no"}
        found.append(cell)
    return found


def study(folder, **groups):
    """A study with the scores of each seed by objective; `clip_crd` stands for `clip+crd`."""
    names = {name: name.replace("clip_crd", "clip+crd") for name in groups}
    some = [cell for name, scores in groups.items() for cell in cells(names[name], scores)]
    return made_up.write(folder / "study", some, config={"objectives": OBJECTIVES, "vlm": []})


def rows(folder, **groups):
    table = ablation_table(read_study(study(folder, **groups)))
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in ([c.strip() for c in line[1:-1].split("|")] for line in lines)}


def numbers(cells):
    return [float(number.replace("−", "-")) for cell in cells for number in re.findall(r"[+−]?\d+\.\d", cell)]


def test_pairs_are_found_by_their_losses():
    assert objective_pairs(OBJECTIVES) == {
        "clip": (None, "clip"),
        "crd": ("crd", "clip+crd"),
        "tinyclip": ("tinyclip", None),
        "clip_kd": (None, "clip_kd"),
    }


def test_table_of_means_and_deviations(tmp_path):
    scores = [0.10, 0.12, 0.17]
    table = rows(tmp_path, clip=[0.09, 0.10, 0.11], crd=[0.2], clip_crd=scores)
    assert table["clip"] == ["–", "–", "–", *["10.0 ± 1.0"] * 3, "–", "–"]
    expected = f"{100 * mean(scores):.1f} ± {100 * stdev(scores):.1f}"
    assert table["crd"][:6] == [*["20.0"] * 3, *[expected] * 3]
    assert table["crd"][6].startswith("+3.0 [") and table["crd"][7] == "not clear"
    assert table["clip_kd"] == ["–"] * 8  # not there yet


def test_gains_are_those_of_dunnetts_paper(tmp_path):
    """Breaking strength of cloth by three processes, and the factor of its table for 8 degrees of freedom: 2.88."""
    strengths = {"clip": [55, 47, 48], "clip_crd": [55, 64, 64], "clip_kd": [55, 49, 52], "tinyclip": [50, 44, 41]}
    found = rows(tmp_path, **{name: [value / 100 for value in values] for name, values in strengths.items()})
    reach = 2.88 * (19 * 2 / 3) ** 0.5  # The variance of the paper is 19.
    for name, gain, verdict in (("crd", 11, "yes"), ("clip_kd", 2, "not clear"), ("tinyclip", -5, "not clear")):
        told, helps = found[name][6:]
        assert numbers([told]) == pytest.approx([gain, gain - reach, gain + reach], abs=0.1) and helps == verdict


@pytest.mark.filterwarnings("error")
def test_the_interval_of_one_loss_is_students():
    """The level of scipy's first search is 95.3% for these numbers of seeds, and its interval 2% too wide."""
    control, scores = [0.10, 0.12, 0.11], [0.13, 0.15, 0.125, 0.14]
    gain = gains_over(cells("clip", control), {"crd": cells("clip+crd", scores)})["crd"]
    low, high = 100 * np.array(stats.ttest_ind(scores, control).confidence_interval(0.95))
    assert (gain.low, gain.high) == pytest.approx((low, high), abs=0.01 * (high - low) / 2)


@pytest.mark.parametrize(
    ("scores", "told"),
    [([0.30, 0.31], "yes"), ([0.02, 0.01], "no, it hurts"), ([0.11, 0.12], "not clear"), ([0.3], "–"), ([], "–")],
)
def test_a_gain_is_told_in_words(tmp_path, scores, told):
    assert rows(tmp_path, clip=[0.10, 0.12, 0.11], clip_crd=scores)["crd"][7] == told


def test_a_seed_that_failed_counts_nowhere(tmp_path):
    table = rows(tmp_path, clip=[0.10, 0.11, 0.12], clip_crd=[0.21, None, 0.22])
    assert table["crd"][6].startswith("+10.5 [") and table["crd"][7] == "yes"


def test_what_has_no_run_with_the_task_is_judged_alone(tmp_path):
    table = rows(tmp_path, clip=[0.10, 0.11], tinyclip=[0.20, 0.21])
    assert table["tinyclip"][6].startswith("+10.0 [") and table["tinyclip"][7] == "yes"


def test_a_failure_is_told_below_the_table(tmp_path):
    folder = study(tmp_path, clip=[0.1], clip_crd=[None])
    text = ablation_table(read_study(folder))
    assert "| `crd` | – | – | – | failed | failed | failed | – | – |" in text
    assert "`clip+crd` failed with seed 0: student-1: exit code 1: ValueError: no" in text


def test_there_is_no_table_without_a_loss_alone(tmp_path, monkeypatch):
    folder = made_up.write(tmp_path / "study", cells("clip", [0.1]), config={"objectives": {"clip": "clip"}})
    assert ablation_table(read_study(folder)) is None
    assert "with the task" not in write_and_read(folder, monkeypatch)


@pytest.mark.parametrize(
    ("kept", "columns", "said"),
    [
        (SCORES[:1], ["acc1"], "in that score (with `clip`"),
        (SCORES[1:], ["image R@1", "text R@1"], "in the mean of the two scores (with `clip`"),
        ((), None, None),
    ],
    ids=["zero_shot", "retrieval", "none"],
)
def test_the_scores_are_those_that_all_cells_have(tmp_path, kept, columns, said):
    """A study may measure zero-shot accuracy alone. One cell without a score is enough to leave it out."""
    folder = study(tmp_path, clip=[0.1, 0.12], clip_crd=[0.3, 0.31])
    path = folder / "cells/clip+crd-1.json"
    cell = json.loads(path.read_text())
    path.write_text(json.dumps(cell | {"student": {name: cell["student"][name] for name in kept}}))
    table = ablation_table(read_study(folder))
    if columns is None:
        assert table is None
        return
    header = next(line for line in table.splitlines() if line.startswith("| objective"))
    names = [cell.strip().rpartition(": ")[2] for cell in header.strip("|").split("|")]
    assert names == ["objective", *columns, *columns, "gain", "helps?"] and said in table
    (row,) = (line for line in table.splitlines() if line.startswith("| `crd`"))
    assert row.count("|") == len(names) + 1 and "+19.5 [" in row


def test_a_report_without_a_language_model_says_nothing_of_vqa(tmp_path, monkeypatch):
    folder = study(tmp_path, clip=[0.1, 0.2], crd=[0.1, 0.3], clip_crd=[0.2, 0.3], clip_kd=[0.4, 0.5])
    text = write_and_read(folder, monkeypatch)
    assert "VQA" not in text and "vision-language" not in text and "Kinds of question" not in text
    assert "which cheap probe" not in text.lower() and "The study “made-up”" in text
    assert "### Losses alone and with the task" in text and "225 steps (0.9 epochs of `shapes`)" in text
    assert "zero-shot accuracy | image R" in text


def test_the_first_objective_without_a_teacher_is_the_reference(tmp_path):
    some = [*cells("clip", [0.1, 0.1]), *cells("clip_kd", [0.4, 0.4])]
    siglip = cells("siglip", [0.9, 0.9])
    for cell in siglip:
        cell["axes"]["teacher"] = None
    found = read_study(made_up.write(tmp_path / "study", [*some, *siglip])).without_teacher(some[0]["axes"])
    assert [cell["id"] for cell in found] == ["clip-0", "clip-1"]
