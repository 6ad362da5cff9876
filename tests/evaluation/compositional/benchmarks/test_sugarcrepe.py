"""SugarCrepe: accuracy per category by hand, and against a plain computation from the similarities."""

import numpy as np
import pytest
from caption_files import FAR, NEAR, TIED, model_of, write_json, write_pictures
from known_model import unit

from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.compositional import COMPOSITIONAL
from hf_clip_kd.evaluation.compositional.benchmarks.sugarcrepe import CATEGORIES


def write(folder, cases):
    """Write `category -> list of (picture, caption, negative caption)`."""
    for category in CATEGORIES:
        rows = {
            str(3 * key): {"filename": f"{image}.jpg", "caption": right, "negative_caption": wrong}
            for key, (image, right, wrong) in enumerate(cases[category])
        }
        write_json(folder / "data" / f"{category}.json", rows)
    numbers = [image for rows in cases.values() for image, _, _ in rows]
    write_pictures(folder / "images", [f"{number}.jpg" for number in range(max(numbers) + 1)])
    return {
        "task": "compositional",
        "dataset_name": "sugarcrepe",
        "annotations": str(folder / "data"),
        "image_folder": str(folder / "images"),
    }


def test_by_hand(tmp_path):
    right, wrong, tie = (0, "near", "far"), (0, "far", "near"), (0, "tied", "tied, too")
    cases = dict.fromkeys(CATEGORIES, [right]) | {"add_att": [right, wrong], "replace_att": [tie]}
    (evaluator,) = build_evaluator({"sugarcrepe": write(tmp_path, cases)}, load=None).evaluators
    model, processor = model_of({"near": NEAR, "far": FAR, "tied": TIED, "tied, too": TIED})
    metrics = evaluator(model, processor)
    by_category = {f"text_acc/{name}": 1.0 for name in CATEGORIES}
    by_category |= {"text_acc/add_att": 1 / 2, "text_acc/replace_att": 0.0}
    assert metrics == pytest.approx({"text_acc": 6 / 8, "macro_acc": 5.5 / 7} | by_category)
    assert tuple(metrics) == evaluator.metric_names and evaluator.primary_metric == "macro_acc"
    assert evaluator.counts == {"n_cases": 8, "n_images": 1, "n_texts": 4}
    assert evaluator.details["by_category"]["add_att"] == {"n_cases": 2, "text_acc": 1 / 2}
    assert evaluator.task == "image_caption_selection"  # CLIP_benchmark's name


def test_agrees_with_a_plain_computation(tmp_path):
    rng = np.random.default_rng(0)
    images, cases, texts = rng.normal(size=(12, 4)), {}, {}
    for category in CATEGORIES:
        cases[category] = []
        for i in range(9):
            pair = f"{category} {i}", f"no {category} {i}"
            texts |= {text: rng.normal(size=4) for text in pair}
            cases[category].append((int(rng.integers(12)), *pair))
    (evaluator,) = build_evaluator({"s": write(tmp_path, cases) | {"batch_size": 7}}, load=None).evaluators
    metrics = evaluator(*model_of(texts, images))
    accuracy = {}
    for category, rows in cases.items():  # the authors' loop: one if the true caption has the larger cosine
        hits = [unit(images[i]) @ unit(texts[right]) > unit(images[i]) @ unit(texts[no]) for i, right, no in rows]
        accuracy[category] = np.mean(hits)
    assert 0.2 < np.mean(list(accuracy.values())) < 0.8
    assert {name: metrics[f"text_acc/{name}"] for name in CATEGORIES} == pytest.approx(accuracy)
    assert metrics["macro_acc"] == pytest.approx(np.mean(list(accuracy.values())))
    low, high = evaluator.details["confidence_intervals"]["macro_acc"]
    assert low < metrics["macro_acc"] < high and evaluator.details["bootstrap"] == {"unit": "image"}


def test_a_single_file_is_a_category(tmp_path):
    block = write(tmp_path, dict.fromkeys(CATEGORIES, [(0, "near", "far")]))
    cases = COMPOSITIONAL["sugarcrepe"].read(tmp_path / "data/swap_obj.json", block["image_folder"])
    assert [(case.category, case.captions) for case in cases] == [("swap_obj", ("near", "far"))]


def test_what_is_missing_is_named(tmp_path):
    block = write(tmp_path, dict.fromkeys(CATEGORIES, [(0, "near", "far"), (1, "near", "far")]))
    (tmp_path / "images/1.jpg").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of 2 pictures .*the first is .*1\.jpg"):
        build_evaluator({"s": block}, load=None)
    (tmp_path / "data/swap_att.json").unlink()
    with pytest.raises(ValueError, match=r"'s': .*swap_att.json: there is no such file.*all seven files"):
        build_evaluator({"s": block}, load=None)
