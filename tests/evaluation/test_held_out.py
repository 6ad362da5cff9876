"""Scores of held-out images: their metrics, their lists, and the task of a recipe."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from known_model import KnownModel, known_processor, numbered_images

import hf_clip_kd as kd
from hf_clip_kd.data.held_out import hold_out, question_rows
from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.held_out import HeldOutEvaluator
from hf_clip_kd.evaluation.representation import attentive_probe

NAMES = ["cat", "dog"]
FEATURES = Features({"image": Image(), "text": List(Value("string")), "label": ClassLabel(names=NAMES)})


def pictures(first, labels):
    images = numbered_images(first + len(labels))[first:]
    rows = {"image": images, "text": [[f"a {NAMES[label]}"] for label in labels], "label": labels}
    return Dataset.from_dict(rows, features=FEATURES)


def test_labels_and_captions_by_hand():
    # Pictures 0 to 3 are held out; 4 to 9 fit the probe. Picture 1 is a dog that looks like a cat.
    images = np.array([[1, 0.2], [1, 0.1], [0.1, 1], [0, 1]] + [[1, 0.1], [0.1, 1]] * 3, dtype=np.float32)
    texts = ["a photo of a cat.", "a photo of a dog.", "a cat", "a dog"]
    embeds = np.array([[1, 0], [0, 1]] * 2, dtype=np.float32)
    evaluator = HeldOutEvaluator(pictures(0, [0, 1, 1, 1]), pictures(4, [0, 1] * 3))
    metrics = evaluator(KnownModel(images, embeds), known_processor(texts))
    scores = evaluator.details["per_image"]
    assert scores["zero_shot"] == scores["linear_probe"] == [1, 0, 1, 1]
    # The caption of a cat finds picture 1 first. That of a dog finds picture 3, and all dogs get the point.
    assert scores["retrieval"] == [0.75, 0.75, 1, 1]
    assert metrics == pytest.approx({name: np.mean(values) for name, values in scores.items()})
    assert set(metrics) == set(evaluator.metric_names) and evaluator.primary_metric == "zero_shot"


def test_a_model_without_texts_has_probes_alone():
    evaluator = HeldOutEvaluator(pictures(0, [0, 1]), pictures(2, [0, 1] * 3))
    processor = known_processor([])
    processor.tokenizer = None
    images = np.array([[1, 0], [0, 1]] * 4, dtype=np.float32)
    assert evaluator(KnownModel(images, images), processor) == {"linear_probe": 1.0}


def test_a_recipe_builds_it_with_questions(tmp_path, monkeypatch):
    for name in ("LEAST_STEPS", "STEPS_PER_TYPE"):  # A whole fit takes seconds.
        monkeypatch.setattr(attentive_probe, name, 20)
    rows = load_shapes("test", size=360, vqa=True).cast_column("image", Image(decode=False))
    others, held_out = hold_out(question_rows(rows), 0.3)
    parts = {"other_questions": others, "held_out_questions": held_out}
    captions = held_out.select_columns(["image"]).add_column("text", [[f"{i}"] for i in range(len(held_out))])
    for name, part in (parts | {"held_out": captions}).items():
        part.save_to_disk(tmp_path / name)
    folders = {name: str(tmp_path / name) for name in parts}
    block = {"dataset_name": str(tmp_path / "held_out"), "others": str(tmp_path / "held_out"), "split": "train"}
    (evaluator,) = build_evaluator({"held_out": block | folders | {"layer": -1}}, kd.load_image_text).evaluators
    metrics = evaluator(*kd.load_clip("test-vit"))
    assert list(metrics) == ["question_probe", "retrieval"] and 0.1 < metrics["question_probe"] < 0.9
    assert len(evaluator.details["per_image"]["question_probe"]) == len(held_out)
    with pytest.raises(ValueError, match="'other' is no argument of the task 'held_out'.*`others`"):
        build_evaluator({"held_out": block | {"other": "x"}}, kd.load_image_text)
