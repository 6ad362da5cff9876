"""recipes/study.py as a user runs it: what it prints, and the whole way in small, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_up_study as made_up
import pytest
import yaml
from killed_study import kill_family
from tiny_study import TINY, write_study

from hf_clip_kd.hub.cards import render_card
from hf_clip_kd.study.cards import collect_students
from recipes import study

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "recipes/study.py"
# One teacher, a student alone and one of its own: everything once.
SMALL = {"cells": [{"teacher": None, "objective": "alone"}, {"teacher": "L"}], "references": {}}


def test_dry_run_lists_cells_with_their_cost_and_starts_nothing(tmp_path, capsys):
    study.main(["--config", str(write_study(tmp_path)), "--dry_run", "true"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line[: line.index("seed 0") + len("seed 0")] for line in lines if "seed 0" in line]
    assert rows == [
        "alone vit alone x1 plain tiny seed 0",
        "S vit clip_kd x1 plain tiny seed 0",
        "L vit clip_kd x1 plain tiny seed 0",
        "L vit clip_kd x2 objects tiny seed 0",
    ]
    # The first cell counts what is shared: the language model, the cost and the reference teacher.
    alone = 10 + 15 + 12 + 12 + 9 + 10
    assert lines[1].split()[-4:] == ["6", "6", str(alone), "s"]
    stages = 2 + 3 + 4 + 6 + 1 + 1 + 7
    seconds = 2 * 10 + 3 * 9 + (3 * 10 + 20) + 6 * 15 + 12 + 9 + 7 * 12
    assert f"4 cells, {stages} stages, {stages} of them to do" in lines[-4]
    assert lines[-3] == f"One after another {seconds / 60:.0f} min, 2 at a time about {seconds / 120:.0f} min"
    assert lines[-1].startswith("How sure the study will be is not known without a pilot. Pass")
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_from_a_pilot_what_will_be_seen(tmp_path, capsys):
    """The study's own cells are a pilot, too, once there are some."""
    pilot = made_up.write(tmp_path / "pilot", made_up.cells(questions=20))
    path = write_study(tmp_path, seeds=[0, 1], cells=[{"teacher": "L"}])
    study.main(["--config", str(path), "--dry_run", "true", "--pilot", str(pilot)])
    told = capsys.readouterr().out
    assert f"pilot {pilot}; this study has 2 seeds, 1 VLM seed each" in told and "  2 seeds on 20 images see" in told
    pilot.rename(tmp_path / "out")
    study.main(["--config", str(path), "--dry_run", "true"])
    assert f"pilot {tmp_path / 'out'}; this study has 2 seeds" in capsys.readouterr().out
    with pytest.raises(ValueError, match="`pilot=.* holds no `study.json`"):
        study.main(["--config", str(path), "--dry_run", "true", "--pilot", str(tmp_path / "nowhere")])


def test_cells_that_failed_are_no_pilot(tmp_path, capsys):
    made_up.write(tmp_path / "out", [cell | {"status": "failed", "error": "x"} for cell in made_up.cells()])
    study.main(["--config", str(write_study(tmp_path)), "--dry_run", "true"])
    assert "How sure the study will be is not known without a pilot." in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_wrong_is_told_in_one_line(tmp_path):
    path = write_study(tmp_path, cells=[{"teacher": "nobody"}])
    done = subprocess.run([sys.executable, STUDY, "--config", path], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.match(r"error: With \S+\.yaml: `cells`: the teacher 'nobody'", done.stderr.splitlines()[-1])


def test_the_slurm_template_is_a_script_that_runs_it():
    text = (ROOT / "recipes/study.sbatch").read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    assert "exec python recipes/study.py" in text and "#SBATCH --signal=B:TERM@" in text


def test_cards_of_a_study_that_has_not_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no study.json"):
        collect_students(tmp_path, ROOT / "recipes/configs/study", tmp_path / "runs")
    path = write_study(tmp_path, **SMALL)
    (arguments,) = study.RecipeParser(study.StudyArguments, path, description="").parse([])
    (tmp_path / "out").mkdir()
    study.write_study(study.Plan(arguments, ROOT / "recipes/configs/study"), tmp_path / "out")
    with pytest.raises(ValueError, match="student-.* has not ended, and a card needs it"):
        collect_students(tmp_path / "out", ROOT / "recipes/configs/study", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_study_of_a_later_version_is_not_gone_on_with(tmp_path):
    path = write_study(tmp_path, **SMALL)
    (tmp_path / "out").mkdir()
    for text, words in (('{"format_version": 3}', "it is a study of the format version 3"), ("{", "Delete it")):
        (tmp_path / "out/study.json").write_text(text)
        with pytest.raises(ValueError, match=f"study.json.*{words}"):
            study.main(["--config", str(path)])
        assert [(file.name, file.read_text()) for file in (tmp_path / "out").iterdir()] == [("study.json", text)]


# ---- The whole way ----


def start(path, **options):
    python_path = os.pathsep.join(filter(None, [str(ROOT), str(path.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(STUDY), "--config", str(path)], cwd=ROOT, env=environment, **options)


def results(folder):
    """All JSONs of a study, without what is measured with a clock and where it lies."""
    study = json.loads((folder / "study.json").read_text())
    study["config"].pop("output_dir")
    cells = [json.loads((folder / "cells" / f"{name}.json").read_text()) for name in study["cells"]]
    for block in [*cells, *(cell["teacher"] for cell in cells if cell["teacher"]), *study["teachers"].values()]:
        block["cost"].pop("images_per_second")
    for block in [*cells, *study["towers"]]:
        del block["seconds"]
    return study, cells


@pytest.mark.slow
def test_a_study_that_is_killed_and_started_again_gives_the_same_jsons(tmp_path):
    (tmp_path / "whole").mkdir(), (tmp_path / "killed").mkdir()
    process = start(write_study(tmp_path / "whole", **SMALL))
    assert process.wait(timeout=900) == 0
    study, cells = results(tmp_path / "whole/out")
    assert [cell["status"] for cell in cells] == ["done", "done"] and study["references"].keys() == {"oracle"}
    assert all(cell["vqa_correct"] and cell["representation_maps"]["vqa"]["cka"] for cell in cells)
    assert (tmp_path / "whole/out/report.html").stat().st_size > 10_000

    alone, distilled = collect_students(tmp_path / "whole/out", ROOT / "recipes/configs/study", tmp_path / "runs")
    assert (alone.name, distilled.name) == ("tiny_alone", "tiny_L_clip_kd")
    text = render_card(distilled)
    assert "|  | teacher | student alone | this model |" in text and "Visual question answering" in text
    assert "visual-question-answering" not in text and "| `effective rank` |" in text

    path = write_study(tmp_path / "killed", **SMALL)
    # A machine's speed must not decide what is under way when the end comes: the stages that are done do.
    for done, end in ((3, kill_family), (6, kill_family), (9, lambda process: process.send_signal(signal.SIGTERM))):
        process = start(path)
        while len(list((tmp_path / "killed/out/stages").glob("*/stage.json"))) < done:
            assert process.poll() is None
            time.sleep(0.2)
        time.sleep(3)  # the next stages have started
        end(process)
        process.wait(timeout=240)
    process = start(path)
    assert process.wait(timeout=900) == 0
    assert results(tmp_path / "killed/out") == (study, cells)

    # A finished stage is not made again. Another objective adds only its own stages.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed/out/stages").glob("*/stage.json")}
    changed = yaml.safe_load(path.read_text())
    changed["objectives"] = TINY["objectives"] | {"fd": {"clip": 1.0, "fd": 4.0}}
    changed["cells"] = [*SMALL["cells"], {"teacher": "L", "objective": "fd"}]
    path.write_text(yaml.safe_dump(changed, sort_keys=False))  # the first of each axis is its default
    assert start(path).wait(timeout=900) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed/out/stages").glob("*/stage.json")}
    assert before.items() <= after.items()
    assert sorted(path.parent.name.split("-")[0] for path in after.keys() - before.keys()) == [
        "evaluate",
        "student",
        "vlm",
    ]


@pytest.mark.slow
def test_a_tower_is_read_in_several_ways_from_one_store_of_features(tmp_path):
    """Two layers, the better of them, and two seeds of the language model's training, of a student alone."""
    (stage,) = TINY["vlm"]
    validation = {"benchmark": "shapes", "split": "validation", "max_samples": 24, "batch_size": 24}
    path = write_study(
        tmp_path,
        cells=[{"teacher": None, "objective": "alone", "reading": ["plain", "last", "best"]}],
        readings={"plain": {}, "last": {"vision_feature_layer": -1}, "best": {"best_of": ["plain", "last"]}},
        vlm_seeds=[0, 1],
        vlm=[stage | {"evaluation": stage["evaluation"] | {"validation": validation}}],
        representation=None,
        reference_teacher=None,
    )
    assert start(path).wait(timeout=900) == 0
    study, cells = results(tmp_path / "out")
    found = {(cell["axes"]["reading"], cell["axes"]["vlm_seed"]): cell for cell in cells}
    assert len(found) == len(cells) == 6 and {cell["status"] for cell in cells} == {"done"}
    for seed in (0, 1):
        best = found["best", seed]
        assert best["chosen"] in ("plain", "last") and best["vqa"] == found[best["chosen"], seed]["vqa"]
    assert {(tower["name"], *tower["axes"].values()) for tower in study["towers"]} == {
        ("blind", "tiny", reading, seed) for reading in ("plain", "last", "best") for seed in (0, 1)
    }
    assert not list((tmp_path / "out/features").glob("*"))
    logs = [(tmp_path / "out/stages" / name / "log.txt").read_text() for name in os.listdir(tmp_path / "out/stages")]
    assert not any("belongs to another vision tower" in log for log in logs)


BROKEN = """
from hf_clip_kd.losses import DistillationLoss
class BrokenLoss(DistillationLoss):
    needs_teacher = False
    def compute(self, student, teacher):
        raise RuntimeError("it cannot be computed")
"""
MENDED = BROKEN.replace('raise RuntimeError("it cannot be computed")', "return student.image.square().mean()")


@pytest.mark.slow
def test_an_objective_that_fails_leaves_the_others_and_is_tried_again(tmp_path):
    """A study without a language model, as the ablation is, with its output in a file."""
    (tmp_path / "broken_loss.py").write_text(BROKEN)
    objectives = {"clip": {"clip": 1.0}, "fd": {"fd": 4.0}, "clip+fd": {"clip": 1.0, "fd": 4.0}}
    path = write_study(
        tmp_path,
        teachers={"L": TINY["teachers"]["L"]},
        objectives=objectives | {"broken": {"broken_loss.BrokenLoss": 1.0}},
        cells=None,
        vlm=[],
        language_models={},
        references={},
        representation=None,
    )
    process = start(path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 1 and "1 of 12 stages failed" in errors
    lines = output.splitlines()
    assert any(re.match(r"running: teacher-\w+ 0 s, cost-\w+ 0 s; 0/12 done; about .* left", line) for line in lines)
    assert any(re.match(r"student-\w+ failed: .*RuntimeError: it cannot be computed", line) for line in lines)
    assert "12/12 done" in lines and "stages:" not in errors
    _, cells = results(tmp_path / "out")
    assert {cell["axes"]["objective"]: cell["status"] for cell in cells} == dict.fromkeys(objectives, "done") | {
        "broken": "failed"
    }
    report = (tmp_path / "out/report.md").read_text()
    assert "| `broken` | failed | failed | failed | – | – | – | – | – |" in report and "VQA" not in report

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/stages").glob("*/stage.json")}
    (tmp_path / "broken_loss.py").write_text(MENDED)
    assert start(path).wait(timeout=900) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/stages").glob("*/stage.json")}
    assert before.items() <= after.items()
    made = sorted(path.parent.name.split("-")[0] for path in after.keys() - before.keys())
    assert made == ["evaluate", "student"]
