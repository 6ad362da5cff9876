"""VQA against image tokens: which cells belong together, and what the fewest tokens cost."""

from statistics import mean

import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.figures import figures_of
from hf_clip_kd.study.report.image_tokens import token_sweeps, token_table

COUNTS = {"all": 16, "four": 4, "one": 1, "one more": 1}


def cells(readings=COUNTS):
    found = []
    for reading, count in readings.items():
        for teacher, objective in ((None, "clip"), ("L", "fd")):
            for seed in range(3):
                cell = made_up.cell(teacher, objective, "x1", "plain", seed)
                lost = 100 if teacher is None and count == 1 else 0  # questions that the student alone loses
                cell["vqa_correct"] = [0] * lost + cell["vqa_correct"][lost:]
                cell["vqa"] = {"accuracy": mean(cell["vqa_correct"])}
                cell["axes"] |= {"reading": reading}
                found.append(cell | {"image_tokens": count, "id": f"{cell['id']}-{reading}"})
    return found


def study(tmp_path, some):
    return read_study(made_up.write(tmp_path / "study", some, config={"readings": dict.fromkeys(COUNTS, {})}))


def test_a_row_for_each_student_and_a_column_for_each_number(tmp_path):
    some = study(tmp_path, cells())
    sweeps = token_sweeps(some)
    assert [list(sweep.cells) for sweep in sweeps] == [[16, 4, 1], [16, 4, 1]]
    assert all(len(group) == 3 for sweep in sweeps for group in sweep.cells.values()), "the first of equal readings"
    header, _, alone, taught = token_table(some).splitlines()
    assert [text.strip() for text in header.split("|")[2:5]] == ["16", "4", "1"]
    assert "1 less 16" in header
    rows = [[text.strip() for text in row.split("|")[1:-1]] for row in (alone, taught)]
    lost = [
        100
        * (mean(cell["vqa"]["accuracy"] for cell in group[1]) - mean(cell["vqa"]["accuracy"] for cell in group[16]))
        for group in (sweep.cells for sweep in sweeps)
    ]
    values = [float(row[4].split()[0].replace("−", "-").replace("+", "")) for row in rows]
    assert values == pytest.approx(lost, abs=0.051) and lost[0] < -10 < lost[1]
    assert rows[0][5] == "–" and rows[1][5].startswith("+"), "the student with a teacher keeps more"
    assert "image_tokens" in figures_of(some)


def test_ways_to_reduce_tokens_are_rows_of_their_own(tmp_path):
    readings = {
        "all": {},
        "four": {"image_tokens": 4},
        "four laid": {"image_tokens": 4, "token_reduction": "shuffle"},
        "longer": {"image_tokens": 4, "max_steps": 9},
    }
    counts = {name: reading.get("image_tokens", 16) for name, reading in readings.items()}
    some = read_study(made_up.write(tmp_path / "study", cells(counts), config={"readings": readings}))
    sweeps = token_sweeps(some)
    assert [(sweep.fixed["teacher"], sweep.fixed["reading"]) for sweep in sweeps] == [
        (None, "pool"),
        (None, "shuffle"),
        ("L", "pool"),
        ("L", "shuffle"),
    ], "nothing has the steps of `longer`"
    for sweep, four in zip(sweeps, ["four", "four laid"] * 2, strict=True):
        assert {count: {cell["axes"]["reading"] for cell in group} for count, group in sweep.cells.items()} == {
            16: {"all"},
            4: {four},
        }
    labels = [row.split("|")[1].strip() for row in token_table(some).splitlines()[2:]]
    assert len(set(labels)) == 4 and sum("shuffle" in label for label in labels) == 2


def test_a_study_with_one_number_has_none(tmp_path):
    some = study(tmp_path, cells({"all": 16}))
    assert token_table(some) is None and "image_tokens" not in figures_of(some)
