"""Cell files from the results of stages. The results are written here by hand, so every number is known."""

import json
from pathlib import Path

import pytest
from tiny_study import TINY

from hf_clip_kd.recipe_io.results import data_names, save_cost, save_results
from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import blocks as collected
from hf_clip_kd.study.running.collect import cell_id, write_cell, write_study
from hf_clip_kd.study.running.plan import Plan
from hf_clip_kd.study.running.schedule import Ended

CONFIGS = Path(__file__).parents[3] / "recipes/configs/study"
MAP = [[1.0, 0.25], [0.5, 0.75]]
PROBE = {"images": [500, 1000], "accuracy": [0.6, 0.7]}


def make_plan(**changes):
    cells = [{"teacher": None, "objective": "alone"}, {"teacher": "L"}]
    return Plan(StudyArguments(**(TINY | {"output_dir": "out", "cells": cells} | changes)), CONFIGS)


def leave(stage, root, value):
    """Write the results of a stage of this kind, with numbers around `value`."""
    output = root / stage.output
    output.mkdir(parents=True, exist_ok=True)
    common = {"model": "m", "config": {}}
    if stage.kind == "evaluate":
        for name, block in stage.arguments["evaluation"].items():
            task = {
                "zero_shot": "zeroshot_classification",
                "retrieval": "zeroshot_retrieval",
                "compositional": "image_caption_selection",
            }.get(name, "representation")
            metrics = {"zero_shot": {"acc1": value}, "retrieval": {"image_retrieval_recall@1": value / 2}}
            metrics["compositional"] = {"text_acc": value / 4, "text_acc/swapped_colors": value / 8}
            compared = {"cka": 0.9} if "teacher" in block else {}
            details = {"representation_maps": {"cka": MAP}} if compared else {}
            details |= {"question_probe": PROBE} if name == "vqa" else {}
            own = metrics.get(name, {"effective_rank": 10 * value + (name == "vqa")} | compared)
            dataset = f"shapes/{block.get('split', 'test')}"
            save_results(output, dataset=dataset, task=task, metrics=own, details=details, **common)
    elif stage.kind in ("vlm", "vqa"):
        folder = output / "results" if stage.kind == "vlm" else output
        details = {"benchmark": "shapes", "main_metric": "accuracy"}
        metrics = {"accuracy": value, "count/accuracy": value / 4}
        save_results(folder, dataset="shapes", task="vqa_llava", metrics=metrics, details=details, **common)
        (folder / "samples").mkdir()
        if stage.kind == "vlm":
            (output / "config.json").write_text(json.dumps({"image_seq_length": 16}))
        lines = [json.dumps({"score": score}) for score in (1.0, 0.0, 0.3)]
        (folder / "samples/shapes_m_vqa_llava.jsonl").write_text("\n".join(lines) + "\n")
    elif stage.kind == "cost":
        tower = {"parameters": 5, "per_second": 100.0}
        save_cost(output, {"this model": {"image": tower, "text": tower | {"parameters": 7}}})
    elif stage.kind == "language_model":
        (output / "oracle.json").write_text(json.dumps({"accuracy": 0.97, "by_type": {"count": 1.0}}))
    elif stage.kind == "student":
        logs = [{"loss": 1.0, "epoch": 0.5, "step": 2}, {"train_loss": 1.0, "epoch": 1.0, "step": 4}]
        (output / "metrics.jsonl").write_text("\n".join(map(json.dumps, logs)) + "\n")
    (root / stage.folder / "stage.json").write_text(json.dumps({"id": stage.id, "kind": stage.kind, "seconds": 1.0}))


@pytest.fixture
def left(tmp_path):
    plan = make_plan()
    for i, stage in enumerate(plan.stages):
        leave(stage, tmp_path, 0.01 * (i + 1))
    return plan, tmp_path, {stage.id: Ended(stage, "done") for stage in plan.stages}


def test_the_data_set_with_the_name_of_the_task_keeps_the_plain_key(tmp_path):
    """Two data sets for retrieval: `photographs` has its name in front, and `retrieval` does not."""
    sets = {"retrieval": "drawings", "photographs": "photographs"}
    evaluation = {name: {"task": "retrieval", "dataset_name": data} for name, data in sets.items()}
    del evaluation["retrieval"]["task"]
    changes = {"vlm": [], "references": {}, "language_models": {}, "representation": None, "reference_teacher": None}
    evaluate = {"recipe": "shapes/evaluate.yaml", "evaluation": evaluation}
    plan = make_plan(cells=[{"teacher": None, "objective": "alone"}], evaluate=evaluate, **changes)
    (measured,) = plan.cells.values()
    output = tmp_path / measured.evaluate.output
    for name, value in (("retrieval", 0.25), ("photographs", 0.75)):
        metrics = {"image_retrieval_recall@10": value}
        common = {"dataset": f"{sets[name]}/test", "model": "m", "task": "zeroshot_retrieval", "config": {}}
        save_results(output, metrics=metrics, **common)
    (tmp_path / measured.evaluate.folder / "stage.json").write_text(
        json.dumps({"id": measured.evaluate.id, "kind": "evaluate", "seconds": 1.0})
    )
    assert collected(plan, measured, tmp_path)["student"] == {
        "image_retrieval_recall@10": 0.25,
        "photographs/image_retrieval_recall@10": 0.75,
    }


def test_a_cell_file_holds_all_blocks(left):
    plan, root, ended = left
    alone, distilled = plan.cells
    record = write_cell(plan, distilled, root, ended)
    assert record == json.loads((root / "cells" / f"{record['id']}.json").read_text())
    assert (record["study"], record["status"], record["epochs"], record["steps"]) == ("tiny", "done", 1.0, 4)
    assert record["axes"] == distilled.axes and "error" not in record
    assert record["image_tokens"] == 16
    assert record["chosen"] is None and record["seconds"] == {"student": 1.0, "vlm": 1.0, "evaluate": 1.0}
    assert record.keys() >= {"vqa_bits", "vqa_images", "vqa_types", "curve"}
    value = 0.01 * (1 + [stage.id for stage in plan.stages].index(plan.cells[distilled].evaluate.id))
    assert record["student"] == {"acc1": value, "image_retrieval_recall@1": value / 2}
    assert record["representation"]["classification"] == {"effective_rank": 10 * value, "cka": 0.9}
    assert record["representation"]["vqa"]["effective_rank"] == 10 * value + 1
    assert record["question_probe"] == {"vqa": PROBE}
    assert record["representation_maps"] == {"classification": {"cka": MAP}, "vqa": {"cka": MAP}}
    asked = 0.01 * (1 + [stage.id for stage in plan.stages].index(plan.cells[distilled].vqa.id))
    assert record["vqa"] == {"accuracy": asked, "count/accuracy": asked / 4}
    assert record["vqa_correct"] == [1, 0, 0.3]
    assert record["cost"] == {"vision_parameters": 5, "text_parameters": 7, "images_per_second": 100.0}
    assert record["teacher"]["representation"]["vqa"].keys() == {"effective_rank"}  # it is not compared with itself
    assert write_cell(plan, alone, root, ended)["teacher"] is None


def test_a_cell_file_holds_compositional_scores(tmp_path):
    plan = make_plan(evaluate="shapes/compositional.yaml")
    for stage in plan.stages:
        leave(stage, tmp_path, 0.4)
    (cell,) = (cell for cell in plan.cells if cell.teacher is None)
    record = write_cell(plan, cell, tmp_path, {stage.id: Ended(stage, "done") for stage in plan.stages})
    compositional = {"text_acc": 0.1, "text_acc/swapped_colors": 0.05}
    assert record["student"] == {"acc1": 0.4, "image_retrieval_recall@1": 0.2} | compositional


def test_several_benchmarks_of_captions_have_a_main_metric_each(tmp_path):
    """Two blocks of one benchmark and split keep their own numbers. The chance of benchmarks differs."""
    sets = {"add": "sugarcrepe", "swap": "sugarcrepe", "winoground": "winoground"}
    blocks = {
        name: {"task": "compositional", "dataset_name": key, "annotations": name, "image_folder": "i"}
        for name, key in sets.items()
    }
    plan = make_plan(evaluate={"recipe": "shapes/evaluate.yaml", "evaluation": blocks})
    (cell,) = (cell for cell in plan.cells if cell.teacher is None)
    stage = plan.cells[cell].evaluate
    folder = tmp_path / stage.output
    for i, (name, data) in enumerate(data_names(stage.arguments["evaluation"]).items()):
        if name in sets:
            main = "acc" if name == "winoground" else "text_acc"
            metrics = {"text_acc": 0.2 + 0.1 * i} | ({"acc": 0.1} if main == "acc" else {})
            common = {"model": "m", "task": "image_caption_selection", "config": {}}
            save_results(folder, dataset=data, metrics=metrics, details={"main_metric": main}, **common)
    (tmp_path / stage.folder / "stage.json").write_text(json.dumps({"seconds": 1.0}))
    scores = collected(plan, plan.cells[cell], tmp_path)["student"]
    assert (scores["add/text_acc"], scores["swap/text_acc"]) == pytest.approx((0.2, 0.3))
    assert (scores["add/main"], scores["swap/main"], scores["winoground/main"]) == pytest.approx((0.2, 0.3, 0.1))


def test_what_is_written_is_what_the_report_reads(left):
    plan, root, ended = left
    for cell in plan.cells:
        write_cell(plan, cell, root, ended)
    write_study(plan, root)
    study = read_study(root)
    assert [cell["axes"] for cell in study.cells] == [cell.axes for cell in plan.cells]
    assert (study.missing, study.failed) == (0, [])
    record = study.record
    assert (record["name"], record["procedural"], list(record["teachers"])) == ("tiny", True, ["L"])
    assert record["references"]["oracle"] == {"accuracy": 0.97, "count/accuracy": 1.0}
    assert record["references"]["blind"].keys() == {"accuracy", "count/accuracy"}
    assert record["oracles"] == {"tiny": record["references"]["oracle"]}
    assert record["teachers"]["L"]["strength"] == "L"
    assert record["config"]["cells"] == plan.study.cells and record["machine"]["processes"] == 2


def test_every_measurement_of_a_teacher_or_reference_is_a_tower(tmp_path):
    """Each tower's accuracy tells reading, language model and seed; the record of a teacher is a mean over seeds."""
    other = tmp_path / "lm"
    other.mkdir()
    (other / "oracle.json").write_text(json.dumps({"accuracy": 0.9, "by_type": {"count": 0.8}}))
    plan = make_plan(
        cells=[{"teacher": "L", "reading": ["plain", "frozen"], "language_model": ["tiny", "other"]}],
        language_models=TINY["language_models"] | {"other": str(other)},
        readings={"plain": {}, "frozen": {"stage": "pretrain"}},
        vlm_seeds=[0, 1],
        teachers={"L": TINY["teachers"]["L"] | {"strength": "strong"}},
    )
    values = {}
    for i, ((name, reader), measured) in enumerate([*plan.teachers.items(), *plan.references.items()]):
        values[name, reader.language_model, reader.reading, reader.vlm_seed] = value = 0.01 * (i + 1)
        leave(measured.vqa, tmp_path, value)
    for stage in plan.stages:
        if stage.kind == "language_model":
            (tmp_path / stage.output).mkdir(parents=True)
            leave(stage, tmp_path, 0.0)
    record = json.loads(write_study(plan, tmp_path).read_text())
    assert len(record["towers"]) == len(values) == 2 * 2 * 2 * 2
    for tower in record["towers"]:
        axes = tower["axes"]
        value = values[tower["name"], axes["language_model"], axes["reading"], axes["vlm_seed"]]
        assert tower["kind"] == ("reference" if tower["name"] == "blind" else "teacher")
        assert tower["vqa"] == {"accuracy": value, "count/accuracy": value / 4}
        assert tower["vqa_correct"] == [1, 0, 0.3]
        assert tower["seconds"] == {"student": None, "vlm": 1.0, "evaluate": None}
    for name, shown in (("L", record["teachers"]["L"]["vqa"]), ("blind", record["references"]["blind"])):
        first = [values[name, "tiny", "plain", seed] for seed in (0, 1)]
        assert shown["accuracy"] == pytest.approx(sum(first) / 2)
    assert record["teachers"]["L"]["strength"] == "strong"
    assert record["oracles"]["other"] == {"accuracy": 0.9, "count/accuracy": 0.8}
    assert record["references"]["oracle"] == record["oracles"]["tiny"] != record["oracles"]["other"]


def test_a_tower_has_the_seed_of_the_yaml_if_the_study_names_none(left):
    plan, root, _ = left
    record = json.loads(write_study(plan, root).read_text())
    axes = {"language_model": "tiny", "reading": "default", "vlm_seed": 0}
    assert [(tower["name"], tower["axes"]) for tower in record["towers"]] == [("L", axes), ("blind", axes)]


def test_the_best_reading_is_that_of_the_validation(tmp_path):
    evaluation = {"shapes": {"split": "test"}, "validation": {"benchmark": "shapes", "split": "validation"}}
    plan = make_plan(
        cells=[{"teacher": "L", "reading": ["best", "first", "second"]}],
        readings={"first": {}, "second": {"vision_feature_layer": -1}, "best": {"best_of": ["first", "second"]}},
        vlm=[TINY["vlm"][0] | {"evaluation": evaluation}],
    )
    best, first, second = plan.cells
    for stage in plan.stages:
        leave(stage, tmp_path, 0.1)
    ended = {stage.id: Ended(stage, "done") for stage in plan.stages}
    # The worse one on the test is the better one on the validation.
    for cell, tested, validated in ((first, 0.9, 0.2), (second, 0.5, 0.6)):
        save_vqa(plan.cells[cell].vqa, tmp_path, "shapes", tested)
        save_vqa(plan.cells[cell].vqa, tmp_path, "validation", validated)
    records = {cell: write_cell(plan, cell, tmp_path, ended) for cell in plan.cells}
    assert (records[best]["chosen"], records[best]["vqa"]["accuracy"]) == ("second", 0.5)
    assert (records[first]["chosen"], records[first]["vqa"]["accuracy"]) == (None, 0.9)
    assert records[best]["vqa_correct"] == [0.5]
    assert records[best]["seconds"]["vlm"] == 2.0  # Both were trained.
    # There is no choice yet if one of them is missing.
    lost = plan.cells[first].vqa
    (tmp_path / lost.folder / "stage.json").unlink()
    record = write_cell(plan, best, tmp_path, ended | {lost.id: Ended(lost, "failed", error="no memory")})
    assert (record["status"], record["chosen"], record["vqa"]) == ("failed", None, {})


def save_vqa(stage, root, name, value):
    """Write one benchmark of a stage, with one question."""
    folder = root / stage.output / "results"
    details = {"benchmark": "shapes", "main_metric": "accuracy"}
    common = {"model": "m", "config": {}, "task": "vqa_llava", "details": details}
    save_results(folder, dataset=name, metrics={"accuracy": value}, **common)
    (folder / f"samples/{name}_m_vqa_llava.jsonl").write_text(json.dumps({"score": value}) + "\n")


def test_a_failed_cell_says_why_and_keeps_what_was_measured(left):
    plan, root, ended = left
    cell = list(plan.cells)[1]
    vqa = plan.cells[cell].vqa
    (root / vqa.folder / "stage.json").unlink()
    record = write_cell(plan, cell, root, ended | {vqa.id: Ended(vqa, "failed", error="exit code 1: no memory")})
    assert (record["status"], record["error"]) == ("failed", f"{vqa.id}: exit code 1: no memory")
    assert (record["vqa"], record["vqa_correct"]) == ({}, None) and record["student"]
    broken = plan.cells[cell].training.needs[0]
    ended |= {stage.id: Ended(stage, "skipped", error="its teacher") for stage in plan.cells[cell].stages}
    record = write_cell(plan, cell, root, ended | {broken.id: Ended(broken, "failed", error="SIGKILL: no memory")})
    assert record["error"] == f"{broken.id}: SIGKILL: no memory"  # the cause, not what came of it
    study = json.loads(write_study(plan, root).read_text())
    assert study["cells"] and study["teachers"]["L"]["vqa"]


def test_a_cell_fails_while_a_stage_before_an_old_student_is_made_anew(left):
    """Another objective asks for a larger cache. The student of an earlier run is there, and its scores fail."""
    plan, root, ended = left
    cell = list(plan.cells)[1]
    measured = plan.cells[cell]
    (cache,) = (need for need in measured.training.needs if need.kind == "cache")
    del ended[cache.id]
    ended[measured.evaluate.id] = Ended(measured.evaluate, "failed", error="exit code 1: no memory")
    assert write_cell(plan, cell, root, ended)["error"] == f"{measured.evaluate.id}: exit code 1: no memory"


def test_several_benchmarks_get_their_names_and_a_mean(tmp_path):
    plan = make_plan(vqa="paper/vqa.yaml")
    cell = list(plan.cells)[1]
    stage = plan.cells[cell].vqa
    for other in plan.awaited_by(cell):
        leave(other, tmp_path, 0.5)
    (tmp_path / stage.output / "samples/shapes_m_vqa_llava.jsonl").write_text('{"score": 1.0}\n')
    for name, metric, value in (("mme", "perception", 1000.0), ("pope", "f1", 0.7)):
        details = {"benchmark": name, "main_metric": metric}
        save_results(
            tmp_path / stage.output,
            dataset=name,
            task="vqa_llava",
            model="m",
            config={},
            metrics={metric: value},
            details=details,
        )
    (tmp_path / stage.output / "samples/mme_m_vqa_llava.jsonl").write_text('{"score": null}\n')
    (tmp_path / stage.output / "samples/pope_m_vqa_llava.jsonl").write_text('{"score": 1.0}\n')
    record = write_cell(plan, cell, tmp_path, {stage.id: Ended(stage, "done") for stage in plan.stages})
    assert record["vqa"] == {
        "mme/perception": 1000.0, "pope/f1": 0.7, "shapes/accuracy": 0.5, "shapes/count/accuracy": 0.125,
        "accuracy": pytest.approx((1000 / 2000 + 0.7 + 0.5) / 3),
        "mme/main": 0.5, "pope/main": 0.7, "shapes/main": 0.5,
    }  # fmt: skip
    assert record["vqa_correct"] is None  # MME has no scores of single questions.


def test_further_benchmarks_have_a_block_of_their_own(tmp_path):
    sets = {"Seeing": "paper/vqa.yaml", "Reading": {"recipe": "paper/vqa.yaml", "dtype": "float32"}}
    plan, plain = make_plan(vqa_tables=sets), make_plan()
    cell = list(plan.cells)[1]
    tables = plan.cells[cell].tables["default"]
    assert list(tables) == list(sets) and set(tables.values()) <= set(plan.stages)
    for other in plan.awaited_by(cell):
        leave(other, tmp_path, 0.5)
    details = {"benchmark": "docvqa", "main_metric": "anls"}
    common = {"task": "vqa_llava", "model": "m", "config": {}, "details": details}
    save_results(tmp_path / tables["Reading"].output, dataset="docvqa", metrics={"anls": 0.25}, **common)
    ended = {stage.id: Ended(stage, "done") for stage in plan.stages}
    record = write_cell(plan, cell, tmp_path, ended)
    assert record["vqa_tables"] == {"Seeing": {"shapes": 0.5}, "Reading": {"docvqa": 0.25, "shapes": 0.5}}
    assert record["vqa"] == {"accuracy": 0.5, "count/accuracy": 0.125}  # They count nowhere else.
    assert record["id"] != cell_id(plain, cell) and cell_id(plain, cell) == cell_id(make_plan(), cell)
    assert plain.cells[cell].tables == {} and "vqa_tables" not in record["teacher"]


def test_further_benchmarks_need_a_vision_language_model():
    with pytest.raises(ValueError, match="`vqa_tables` is .*`vlm` has no stage"):
        make_plan(vlm=[], language_models={}, references={}, vqa_tables={"Seeing": "paper/vqa.yaml"})
    with pytest.raises(ValueError, match="`vqa_tables`: 'no.yaml' names no YAML"):
        make_plan(vqa_tables={"Seeing": "no.yaml"})
    with pytest.raises(ValueError, match="`vqa_tables`, 'Seeing': 5 is no set of benchmarks.*YAML.*Write for example"):
        make_plan(vqa_tables={"Seeing": 5})


@pytest.mark.parametrize(("data", "epochs"), [("plain", 1.0), ("objects", 1.6)])
def test_a_stream_has_the_epochs_that_its_recipe_says(tmp_path, data, epochs):
    plan = make_plan(cells=[{"teacher": "L", "data": data}])
    (cell,) = plan.cells
    leave(plan.cells[cell].training, tmp_path, 0.5)
    ended = {stage.id: Ended(stage, "skipped", error="no time") for stage in plan.stages}
    assert write_cell(plan, cell, tmp_path, ended)["epochs"] == epochs
