"""Answers about a tower, from files that are written here by hand."""

import json

import pytest

from hf_clip_kd.recipe_io.results import result_path, save_results
from hf_clip_kd.study.cells.metrics import question_types
from hf_clip_kd.study.running.answers import answers_block, averaged, image_tokens, validation_score
from hf_clip_kd.study.running.stages import Stage

VLM = Stage("vlm", {"vision_tower": "t"})
VQA = Stage("vqa", {"model_name_or_path": VLM.output}, (VLM,))
LINES = [
    {"image": "b.png", "category": "count", "score": 1.0, "bits": 0.12345678},
    {"image": "a.png", "category": "color", "score": 0.0, "bits": 3},
    {"image": "b.png", "category": "color", "score": 0.3, "bits": 1.5},
]


def leave(root, benchmarks, stage=VLM):
    """Write benchmark -> (metrics, lines of its questions), as the evaluator does."""
    folder = root / stage.output / ("results" if stage.kind == "vlm" else "")
    for name, (metrics, lines) in benchmarks.items():
        names = {"dataset": name, "model": "runs/m", "task": "vqa_llava"}
        details = {"benchmark": "mme" if name == "mme" else "shapes", "main_metric": next(iter(metrics))}
        save_results(folder, metrics=metrics, details=details, config={}, **names)
        path = folder / "samples" / f"{result_path(folder, **names).stem}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / stage.folder / "stage.json").write_text(json.dumps({"seconds": 1.0}))


def block(root, stage=VLM, chooses=False):
    return answers_block(stage, root, chooses=chooses)


def test_questions_keep_score_bits_image_and_type(tmp_path):
    leave(tmp_path, {"shapes": ({"accuracy": 0.4, "answer_bits": 1.5, "count/answer_bits": 0.1}, LINES)})
    assert block(tmp_path) == {
        "vqa": {"accuracy": 0.4, "answer_bits": 1.5, "count/answer_bits": 0.1},
        "vqa_correct": [1, 0, 0.3],
        "vqa_bits": [0.123457, 3, 1.5],
        "vqa_images": [0, 1, 0],
        "vqa_types": ["count", "color", "color"],
        "curve": None,
    }


def test_tokens_of_an_image_are_those_of_the_last_training(tmp_path):
    assert image_tokens(VQA, tmp_path) is None
    folder = tmp_path / VLM.output
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"image_seq_length": 9}))
    assert image_tokens(VQA, tmp_path) == image_tokens(VLM, tmp_path) == 9
    tiles = {"image_seq_length": 9, "image_grid_pinpoints": [[32, 64]]}
    (folder / "config.json").write_text(json.dumps(tiles))
    assert image_tokens(VQA, tmp_path) is None, "each image has another number of tiles"


def test_what_no_question_has_is_null(tmp_path):
    lines = [{"image": name, "category": "", "score": 1.0, "bits": bits} for name, bits in (("a", 1.0), (None, None))]
    leave(tmp_path, {"shapes": ({"accuracy": 1.0}, lines)})
    found = block(tmp_path)
    assert [found[name] for name in ("vqa_bits", "vqa_images", "vqa_types")] == [None] * 3


def test_results_of_an_earlier_version_have_scores_alone(tmp_path):
    leave(tmp_path, {"shapes": ({"accuracy": 0.5}, [{"score": 1.0}, {"score": 0.0}])})
    found = block(tmp_path)
    assert found["vqa_correct"] == [1, 0] and found["vqa_bits"] is found["vqa_images"] is found["vqa_types"] is None


def test_a_stage_that_has_not_ended_has_nothing(tmp_path):
    assert block(tmp_path)["vqa"] == {} and block(tmp_path)["vqa_correct"] is None
    assert validation_score(VLM, tmp_path) is None


def test_benchmarks_do_not_share_images_or_types(tmp_path):
    first = ({"accuracy": 0.5, "answer_bits": 1.0}, LINES[:2])
    leave(tmp_path, {"a": first, "b": ({"accuracy": 1.0, "answer_bits": 2.0}, LINES[:1] * 2)}, VQA)
    found = block(tmp_path, VQA)
    assert found["vqa"]["accuracy"] == 0.75 and found["vqa"]["answer_bits"] == 1.5 and found["vqa"]["b/accuracy"] == 1
    assert found["vqa_images"] == [0, 1, 2, 2]
    assert found["vqa_types"] == ["a/count", "a/color", "b/count", "b/count"]


def test_the_number_of_papers_counts(tmp_path):
    """The first metric is the main one here. MME's is a sum of points, at most 2,000."""
    mmvp = {"pair_accuracy": 0.2, "accuracy": 0.6}
    leave(tmp_path, {"mmvp": (mmvp, LINES[:1])})
    assert block(tmp_path)["vqa"] == {"pair_accuracy": 0.2, "accuracy": 0.2}
    leave(tmp_path, {"mmvp": (mmvp, LINES[:1]), "mme": ({"perception": 1000.0, "OCR/accuracy": 0.5}, LINES[:1])}, VQA)
    found = block(tmp_path, VQA)["vqa"]
    assert (found["mmvp/main"], found["mme/main"], found["accuracy"]) == (0.2, 0.5, 0.35)
    assert found["mmvp/accuracy"] == 0.6 and question_types({"vqa": found}) == {"mme": 50, "mmvp": 20}


def test_the_validation_chooses_and_measures_nothing(tmp_path):
    leave(tmp_path, {"shapes": ({"accuracy": 0.5}, LINES[:1]), "validation": ({"accuracy": 0.9}, LINES)})
    leave_curve(tmp_path, {"shapes": {"accuracy": [0.25, 0.5]}, "validation": {"accuracy": [0.8, 0.9]}})
    assert validation_score(VLM, tmp_path) == 0.9
    found = block(tmp_path, chooses=True)
    assert found["vqa"] == {"accuracy": 0.5} and found["vqa_correct"] == [1]
    assert found["curve"]["accuracy"] == [0.25, 0.5] and found["curve"]["area"] == {"accuracy": 0.25}
    # It is a benchmark as any other in a study that chooses nothing.
    assert block(tmp_path)["vqa"]["accuracy"] == pytest.approx(0.7) and len(block(tmp_path)["vqa_correct"]) == 4


def leave_curve(root, scores):
    area = {name: {metric: values[0] for metric, values in own.items()} for name, own in scores.items()}
    record = {"steps": [100, 250], "seconds": [3.0, 8.0], "scores": scores, "area": area}
    (root / VLM.output / "learning_curve.json").write_text(json.dumps(record))


def test_curves_have_types_and_a_mean_over_benchmarks(tmp_path):
    leave(tmp_path, {"a": ({"accuracy": 0.5}, LINES)}, VQA)
    own = {"accuracy": [0.25, 0.5], "answer_bits": [2.0, 1.0], "count/accuracy": [0.0, 1.0]}
    (tmp_path / VLM.output).mkdir(parents=True)
    leave_curve(tmp_path, {"a": own})
    curve = {"steps": [100, 250], "seconds": [3.0, 8.0], "accuracy": [0.25, 0.5], "answer_bits": [2.0, 1.0]}
    curve |= {"area": {"accuracy": 0.25, "answer_bits": 2.0}, "types": {"count": {"accuracy": [0.0, 1.0]}}}
    assert block(tmp_path, VQA)["curve"] == curve  # The training is before the stage that answers.
    leave_curve(tmp_path, {"a": own, "b": {"accuracy": [0.75, 1.0]}, "mme": {"perception": [900.0, 1000.0]}})
    found = block(tmp_path, VQA)["curve"]
    assert found["accuracy"] == [0.5, 0.75] and found["area"]["accuracy"] == 0.5
    assert found["types"] == {"a/count": {"accuracy": [0.0, 1.0]}}


def test_repeats_have_a_mean():
    first = {"vqa": {"accuracy": 0.5, "only": 1.0}, "vqa_correct": [1, 0], "vqa_bits": None}
    second = {"vqa": {"accuracy": 1.0}, "vqa_correct": [1, 1], "vqa_bits": [0.5, 1.5]}
    missing = {"vqa": {}, "vqa_correct": None, "vqa_bits": None}
    assert averaged([first, missing, second]) == {"vqa": {"accuracy": 0.75}, "vqa_correct": [1, 0.5], "vqa_bits": None}
    assert averaged([second]) == second
    assert averaged([missing]) == missing
