"""Report of a made-up study: the effects put into its cells come out, and its pages are consistent."""

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import made_up_objectives
import made_up_study as made_up
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

from hf_clip_kd.study.cells.cells import Study, read_study, scores
from hf_clip_kd.study.cells.metrics import CKA, VQA, ZERO_SHOT, probes, question_types, signed
from hf_clip_kd.study.estimates.comparison import compare
from hf_clip_kd.study.estimates.outcomes import outcomes
from hf_clip_kd.study.estimates.slopes import teachers_own_slope, teachers_slope
from hf_clip_kd.study.estimates.statistics import Estimate
from hf_clip_kd.study.estimates.trends import doubling
from hf_clip_kd.study.report import report
from hf_clip_kd.study.report.figures import FIGURES, LeftOut, figures_of
from hf_clip_kd.study.report.figures.canvas import DARK, LIGHT, look, style
from hf_clip_kd.study.report.figures.probes import ranked
from hf_clip_kd.study.report.figures.question_types import rows
from hf_clip_kd.study.report.figures.transfer import gaps
from hf_clip_kd.study.report.findings import findings, verdict
from hf_clip_kd.study.report.report import write_report
from recipes import study_report

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_up.write(tmp_path_factory.mktemp("study") / "whole", made_up.cells(questions=2000))


@pytest.fixture(scope="module")
def study(folder) -> Study:
    return read_study(folder)


# ---- Effects put in come out ----


def test_the_slope_over_teachers_is_the_one_put_in(study):
    zero_shot, vqa = teachers_slope(study, ZERO_SHOT), teachers_slope(study, VQA)
    assert zero_shot.low < made_up.ZERO_SHOT_SLOPE < zero_shot.high and zero_shot.clear
    assert vqa.low < made_up.VQA_SLOPE < vqa.high and not vqa.clear
    assert zero_shot.seeds == 3
    assert teachers_own_slope(study, VQA) == pytest.approx(0.2)


def test_a_doubling_is_worth_what_was_put_in(study):
    zero_shot, vqa = doubling(study, ZERO_SHOT), doubling(study, VQA)
    assert zero_shot.value == pytest.approx(100 * made_up.ZERO_SHOT_DOUBLING, abs=0.5) and zero_shot.clear
    assert vqa.low < 0 < vqa.high
    assert doubling(study, CKA["classification"]).clear and not doubling(study, CKA["vqa"]).clear


def test_objectives_that_help_are_marked_and_the_idle_one_is_not(study):
    found = compare(study, "objective")
    assert found.reference == "no teacher" and set(found.rows) == {"no teacher", *made_up.OBJECTIVES}
    assert found.best(VQA) == "clip_kd" and found.rows["clip_kd"][VQA].mark == "▲"
    assert found.rows["crd"][VQA].mark == "" and found.rows["no teacher"][VQA].difference is None
    score = found.rows["clip_kd"][ZERO_SHOT]
    alone = found.rows["no teacher"][ZERO_SHOT]
    assert score.difference.value == pytest.approx(np.mean(score.values) - np.mean(alone.values))
    assert score.adjusted >= score.difference.p_value


def test_the_probe_that_follows_vqa_is_the_first(study):
    found = ranked(study)
    assert next(iter(found)) == "effective rank (VQA images)"
    cells, estimate = found["cka (VQA images)"]  # The cells are those with a teacher.
    assert cells == 27 and not estimate.clear


def test_gaps_to_the_teachers_by_hand(study):
    (score, gap) = gaps(study, ZERO_SHOT)["L"]
    students = scores(study.main_sweep("teacher").cells["L"], ZERO_SHOT).values()
    assert score == pytest.approx(43) and gap.value == pytest.approx(np.mean(list(students)) - 43)
    assert list(gaps(study, VQA)) == ["S", "M", "L"]


def test_a_teacher_whose_answers_are_known_is_compared_question_by_question(study):
    """Then the interval is that of the questions, too, and there is one with a single seed."""
    cell = study.main_sweep("teacher").cells["L"][0]
    same = study.record["teachers"]["L"] | {"vqa": cell["vqa"], "vqa_correct": cell["vqa_correct"]}
    alike = Study(study.record | {"teachers": {"L": same}}, [cell], [], 0)
    _, gap = gaps(alike, VQA)["L"]
    assert (gap.value, gap.low, gap.high) == pytest.approx((0, 0, 0))
    _, unknown = gaps(Study(study.record, [cell], [], 0), VQA)["L"]
    assert np.isnan(unknown.low)


def test_question_types_are_compared_with_no_teacher(study):
    found, compared = rows(study)
    names = list(found)
    assert names[:2] == ["blind (reference)", "no teacher, x1, plain"] and names[-1] == "oracle (reference)"
    assert compared["teacher S"] == found["no teacher, x1, plain"] and set(compared["teacher S"]) == set(made_up.TYPES)
    assert compared["clip_kd from L, x4, plain"] == found["no teacher, x4, plain"] != found["no teacher, x1, plain"]
    assert compared["clip_kd from L, x1, attributes"] == found["no teacher, x1, plain"]  # None has these data.
    assert found["oracle (reference)"]["count"] == pytest.approx(99)


def test_a_figure_that_another_run_has_just_removed_is_no_fault(tmp_path, study, monkeypatch):
    def left_out(study, narrow):
        raise LeftOut("Nothing to draw.")

    figure = dataclasses.replace(FIGURES["duration"], draw=left_out)
    monkeypatch.setattr(report, "figures_of", lambda study: {"duration": figure})
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "duration.svg"])
    ((entry,), paths) = report._figures(study, tmp_path)
    assert entry["left_out"] == "Nothing to draw." and paths == []


# ---- Sweeps ----


def test_sweeps_hold_all_else_fixed_and_are_in_order(study):
    teachers, durations = study.main_sweep("teacher"), study.main_sweep("duration")
    assert list(teachers.cells) == ["S", "M", "L"] and list(durations.cells) == ["x1", "x2", "x4"]
    assert durations.fixed["teacher"] == "L" and study.sweeps("duration")[1].fixed["teacher"] is None
    assert [sweep.label(study.sweeps("duration")) for sweep in study.sweeps("duration")] == [
        "from L, clip_kd",
        "no teacher",
    ]
    assert study.main_sweep("student") is None
    for sweep in study.sweeps("objective"):
        cells = [cell for cells in sweep.cells.values() for cell in cells]
        assert all(cell["axes"].get(axis) == value for cell in cells for axis, value in sweep.fixed.items())


def test_a_seed_that_failed_in_one_condition_is_left_out_of_the_pairs(study):
    first, second = (study.main_sweep("data").cells[name] for name in ("plain", "attributes"))
    assert outcomes([first, second], ZERO_SHOT).scores.shape == (2, 3, 1)
    assert outcomes([first[:1] + first[2:], second], VQA).scores.shape == (2, 2, 2000)
    assert outcomes([first[:1], second[1:]], VQA).scores.shape[1] == 0


def test_questions_whose_mean_is_not_the_score_are_not_drawn(study):
    """The score of several benchmarks is the mean of theirs, and not that of all questions."""
    cells = [cell | {"vqa": {"accuracy": 0.5}} for cell in study.main_sweep("data").cells["plain"]]
    assert outcomes([cells], VQA).scores.tolist() == [[[50], [50], [50]]]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"acc1": 0.5, "imagenet/acc1": 0.9}, 50),
        ({"imagenet/acc1": 0.4, "cars/acc1": 0.6}, 50),
        ({"acc5": 0.4}, None),
        ({"acc1": None}, None),
        (None, None),
    ],
)
def test_a_metric_is_the_plain_one_or_the_mean_of_the_data_sets(block, expected):
    assert ZERO_SHOT.of({"student": block}) == expected


def test_types_of_question_are_the_shallowest_names():
    vqa = {"accuracy": 0.5, "gqa/accuracy": 0.25, "gqa/open/accuracy": 0.75}
    assert question_types({"vqa": vqa}) == {"gqa": 25}


def test_probes_are_named_for_readers_and_finite():
    cell = {"student": {"acc1": 0.5}, "representation": {"vqa": {"token_norm": 2.0, "cka": float("nan")}}}
    assert probes(cell) == {"zero-shot accuracy": 0.5, "token norm (VQA images)": 2.0}


def test_numbers_are_short_and_have_a_minus():
    assert ZERO_SHOT.show(-1.25) == "−1.2" and signed(3) == "+3.00" and signed(-0.123, 1) == "−0.1"
    assert CKA["vqa"].show(0.123) == "0.12" and CKA["vqa"].show(12.34) == "12.3"


# ---- Texts ----


@pytest.mark.parametrize(
    ("zero_shot", "vqa", "said"),
    [
        ((0.5, 0.7), (-0.1, 0.2), "finding appears: zero-shot follows the teacher, VQA clearly follows less"),
        ((0.5, 0.7), (0.1, 0.2), "appears in part"),
        ((0.5, 0.7), (0.1, 0.55), "does not appear"),
        ((0.5, 0.7), (-0.3, -0.1), "worse in VQA"),
        ((0.5, 0.7), (-0.4, 0.55), "is open"),
        ((-0.1, 0.7), (-0.1, 0.2), "cannot be judged"),
        ((0.5, 0.7), (np.nan, np.nan), "cannot be judged"),
    ],
)
def test_the_verdict_says_no_more_than_the_intervals(zero_shot, vqa, said):
    def estimate(low, high):
        return Estimate((low + high) / 2, low, high, 0.5, seeds=1 if np.isnan(low) else 3)

    assert said in verdict({ZERO_SHOT: estimate(*zero_shot), VQA: estimate(*vqa)})


def test_one_seed_makes_nothing_clear(tmp_path):
    study = read_study(made_up.write(tmp_path / "study", made_up.cells(seeds=[0], questions=5000)))
    found = compare(study, "objective")
    assert found.rows["clip_kd"][VQA].difference.p_value < 1e-3
    assert not any(score.mark for row in found.rows.values() for score in row.values())
    assert "cannot be judged" in findings(study)[0] and "too few to tell" in findings(study)[0]


def test_likeness_to_another_teacher_is_not_compared(study):
    assert all(
        row[CKA["vqa"]].difference is None for row in compare(study, "teacher").rows.values() if CKA["vqa"] in row
    )
    assert compare(study, "duration").rows["x4"][CKA["classification"]].mark == "▲"


def test_findings_answer_each_question_once(study):
    titles = [re.match(r"\*\*(.*?)\.\*\*", text)[1] for text in findings(study)]
    assert titles == [
        "Better teachers",
        "How well a language model reads them",
        "Share of the lead",
        "Longer training",
        "Objectives",
        "Data",
        "Size",
        "Cheap probes of VQA",
        "Kinds of question",
        "The meter",
    ]


# ---- Figures ----


def texts(figure) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Every visible text of a figure with its box in pixels, a pixel smaller on each side."""
    figure.draw_without_rendering()
    found = []
    for text in figure.findobj(plt.Text):
        if text.get_visible() and text.get_text().strip() and text.figure is not None:
            box = text.get_window_extent()
            found.append((text.get_text(), (box.x0 + 1, box.y0 + 1, box.x1 - 1, box.y1 - 1)))
    return found


def shown_ticks(figure) -> None:
    """Hides the labels of ticks beyond the ends of an axis, which matplotlib keeps and does not draw."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    tick.label1.set_visible(False)
                    tick.label2.set_visible(False)


LONG_NAMES = {
    '"L"': '"siglip2-base-patch16"',
    '"M"': '"openai-b16"',
    '"fd"': '"clip_and_patch_tokens"',
    "texture_at": "texture_of_the_object_at",
    "norm_ratio": "question_probe/what_is_left_of_it",
}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory) -> Study:
    """The same with names as long as real ones, and layers as many."""
    cells = made_up.cells(questions=100)
    cells += [made_up.cell(teacher, "fd", "x1", "plain", seed, questions=100) for teacher in "SM" for seed in range(3)]
    for cell in cells:
        cell["seconds"] = {"student": 180.0 * cell["epochs"], "vlm": 70.0, "evaluate": 30.0}
        cell["representation"]["vqa"]["question_probe"] = cell["student"]["acc1"]
        for block in cell["representation_maps"].values():
            block["cka"] = np.eye(13).tolist()
        skill = cell["student"]["acc1"]
        cell["curve"] = {
            "steps": [100, 250, 750, 2250],
            "accuracy": [skill, skill + 0.1, skill + 0.2, skill + 0.25],
            "answer_bits": [3 - skill, 2.5 - skill, 2.2 - skill, 2 - skill],
        }
    folder = made_up.write(tmp_path_factory.mktemp("study") / "crowded", cells)
    for path in folder.rglob("*.json"):
        text = path.read_text()
        for short, long in LONG_NAMES.items():
            text = text.replace(short, long)
        path.write_text(text)
    return read_study(folder)


def test_each_objective_of_a_study_has_a_colour_of_its_own():
    for path in (ROOT / "recipes/configs/study").glob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        if config.get("base_objective"):  # Its objectives stand in one figure. The student alone has the ink's colour.
            colours = [look(number)[0] for number in range(len(config["objectives"]) - 1)]
            assert len(set(colours)) == len(colours), path.name
    assert len(set(LIGHT)) == len(set(DARK)) == len(LIGHT) == len(DARK)


@pytest.fixture(scope="module")
def committed() -> Study:
    return read_study(ROOT / "model_cards/miniature")


@pytest.mark.parametrize("narrow", [False, True], ids=["page", "phone"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "objective_students" else name for name in FIGURES]
)
@pytest.mark.parametrize("which", ["crowded", pytest.param("committed", marks=pytest.mark.slow)])
def test_no_text_of_a_figure_overlaps_another_or_is_cut_off(which, name, narrow, request):
    study = request.getfixturevalue(which)
    if name not in figures_of(study):
        with pytest.raises(LeftOut):
            FIGURES[name].draw(study, narrow)
        return
    with plt.rc_context(style(dark=False)):
        figure = FIGURES[name].draw(study, narrow)
        figure.draw_without_rendering()
        shown_ticks(figure)
        found, (width, height) = texts(figure), figure.canvas.get_width_height()
        plt.close(figure)
    for text, (left, bottom, right, top) in found:
        assert left > -2 and bottom > -2 and right < width + 2 and top < height + 2, f"{text!r} is cut off"
    for (first, a), (second, b) in itertools.combinations(found, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{first!r} overlaps {second!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["objectives", "objective_students"])
def test_an_objective_that_another_language_model_reads_alone_is_drawn(name):
    teachers = {"S": 50.0, "M": 60.0, "L": 70.0}
    alike = {"seeds": [0, 1], "teachers": teachers}
    both = {"shares": {"clip_kd": 0.25, "dense": 0.6}, "language_models": ("first", "second")}
    cells = made_up_objectives.students(**both, **alike)
    cells += made_up_objectives.students(shares={"late": 0.5}, language_models=("second",), **alike)[1:4]
    with plt.rc_context(style(dark=False)):
        figure = FIGURES[name].draw(made_up_objectives.study(cells, teachers=teachers), False)
        assert {"clip_kd", "dense", "late"} < {text for text, _ in texts(figure)}
        plt.close(figure)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One cell: no axis varies, there is one seed, and neither teacher nor references were measured."""
    cell = made_up.cell("L", "clip_kd", "x1", "plain", 0)
    cell |= {"vqa": {"accuracy": cell["vqa"]["accuracy"]}, "representation_maps": {}, "cost": {}}
    failed = {
        "id": "bad",
        "axes": {"teacher": "L", "seed": 1},
        "status": "failed",
        "error": "Trace\nValueError: a | <b>",
    }
    folder = tmp_path_factory.mktemp("study") / "small"
    made_up.write(folder, [cell, failed], teachers={}, references={}, cells=[cell["id"], "bad", "later"])
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_cells_is_left_out_with_a_sentence(small, name):
    with pytest.raises(LeftOut, match=r"^[A-Z].*\.$"):
        FIGURES[name].draw(read_study(small), False)


# ---- Pages ----


class Page(HTMLParser):
    """Parser that notes the addresses a page loads, and the tags it leaves open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.alts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loads += [attributes[name] for name in ("src", "srcset") if name in attributes]
        self.alts += [attributes["alt"]] if tag == "img" else []
        if tag not in ("meta", "img", "source", "link", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_of_one_cell_says_what_it_has_not(small):
    paths = write_report(small)
    assert [path.name for path in paths] == ["report.md", "report.html", "summary.json"]
    text = (small / "report.md").read_text()
    assert text.count("\n*") >= len(figures_of(read_study(small)))
    assert "not ended yet: 1." in text and "failed: 1**" in text
    assert r"ValueError: a \| &lt;b&gt;" in text
    page = Page((small / "report.html").read_text())
    assert page.open == [] and page.loads == [] and "<b>" not in (small / "report.html").read_text()
    assert json.loads((small / "summary.json").read_text())["failed"] == 1


@pytest.mark.slow
def test_the_report_is_whole_and_the_same_each_time(folder):
    paths = study_report.main([str(folder)])
    figures = figures_of(read_study(folder))
    assert len(paths) == 3 + 5 * len(figures)
    first = {path: path.read_bytes() for path in paths}
    page = Page(first[folder / "report.html"].decode())
    assert page.open == [] and page.alts == [figure.title for figure in figures.values()]
    assert len(page.loads) == 4 * len(figures) and all(
        address.startswith("data:image/svg+xml;base64,") for address in page.loads
    )
    text = first[folder / "report.md"].decode()
    assert all((folder / path).is_file() for path in re.findall(r'figures/[^")]+', text))
    assert "Procedural data" in text and "nan" not in text and "None" not in text
    assert str(folder) not in text
    write_report(folder)
    assert {path: path.read_bytes() for path in paths} == first


@pytest.mark.slow
def test_objectives_side_by_side_have_a_finding_a_table_and_figures(tmp_path):
    cells = made_up.cells(questions=200)
    cells += [made_up.cell(teacher, "fd", "x1", "plain", seed, questions=200) for teacher in "SM" for seed in range(3)]
    folder = made_up.write(tmp_path / "study", cells)
    first = {path: path.read_bytes() for path in write_report(folder)}
    text = first[folder / "report.md"].decode()
    assert "**The goal.** An objective is wanted" in text and "### Objectives side by side" in text
    assert "| zero-shot accuracy | `fd` |" in text and "nan" not in text and "None" not in text
    for name in ("objectives", "objective_students"):
        assert (folder / f"figures/{name}.png").is_file() and f'"figures/{name}.svg"' in text
    assert {path: path.read_bytes() for path in write_report(folder)} == first


def test_only_procedural_data_is_called_so(small):
    record = json.loads((small / "study.json").read_text())
    (small / "study.json").write_text(json.dumps(record | {"procedural": False}))
    write_report(small)
    assert "Procedural" not in (small / "report.md").read_text()


def test_a_folder_without_a_study(tmp_path):
    with pytest.raises(ValueError, match="no `study.json`.*output folder of a study.*recipes/study.py"):
        read_study(tmp_path)


def test_a_study_in_which_nothing_is_done(tmp_path):
    made_up.write(tmp_path / "study", [{"id": "bad", "axes": {}, "status": "failed", "error": "no"}])
    with pytest.raises(ValueError, match="1 of 1 have ended, all with an error.*needs one at least"):
        read_study(tmp_path / "study")
