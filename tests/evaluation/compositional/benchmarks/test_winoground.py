"""Winoground's three scores by hand, and against the paper's formulas."""

import numpy as np
import pytest
from caption_files import model_of, write_lines, write_pictures
from known_model import unit

from hf_clip_kd.evaluation import build_evaluator


def evaluator_of(folder, number, tags=("Object", "Relation", "Both")):
    rows, names = [], []
    for i in range(number):
        pictures = [f"ex_{i}_img_{j}" for j in range(2)]
        names += [f"{name}.png" for name in pictures]
        row = {"id": i, "image_0": pictures[0], "image_1": pictures[1], "collapsed_tag": tags[i % len(tags)]}
        rows.append(row | {"caption_0": f"{i} a", "caption_1": f"{i} b", "num_main_preds": 1})
    write_pictures(folder / "images", names)
    block = {
        "task": "compositional",
        "dataset_name": "winoground",
        "annotations": str(write_lines(folder / "examples.jsonl", rows)),
        "image_folder": str(folder / "images"),
    }
    (evaluator,) = build_evaluator({"winoground": block}, load=None).evaluators
    return evaluator


def test_by_hand(tmp_path):
    evaluator = evaluator_of(tmp_path, 4)
    x, y, z = np.eye(3)
    images = [x, y, x, y, x, y, x, y]
    texts = {"0 a": x, "0 b": y}  # all right
    texts |= {"1 a": x, "1 b": 2 * x + y}  # (1, 0), (0.89, 0.45): texts right, the second picture is wrong
    texts |= {"2 a": x + z, "2 b": x + y}  # a tie at the first picture: images are (0.71 > 0), a tie: both wrong
    texts |= {"3 a": y, "3 b": x}  # all wrong
    metrics = evaluator(*model_of(texts, images))
    assert {name: metrics[name] for name in ("text_acc", "image_acc", "acc")} == {
        "text_acc": 2 / 4,
        "image_acc": 1 / 4,
        "acc": 1 / 4,
    }
    assert (metrics["text_acc/Object"], metrics["text_acc/Relation"], metrics["text_acc/Both"]) == (1 / 2, 1, 0)
    assert (metrics["image_acc/Object"], metrics["image_acc/Relation"], metrics["acc/Both"]) == (1 / 2, 0, 0)
    assert tuple(metrics) == evaluator.metric_names and evaluator.primary_metric == "acc"
    assert evaluator.counts == {"n_cases": 4, "n_images": 8, "n_texts": 8}


def test_agrees_with_the_formulas_of_the_paper(tmp_path):
    rng, number = np.random.default_rng(5), 40
    evaluator = evaluator_of(tmp_path, number)
    images = rng.normal(size=(2 * number, 3))
    texts = {f"{i} {j}": images[2 * i + "ab".index(j)] + 1.5 * rng.normal(size=3) for i in range(number) for j in "ab"}
    metrics = evaluator(*model_of(texts, images))

    def s(caption, image):
        return unit(texts[caption]) @ unit(images[image])

    f, g = [], []
    for i in range(number):
        c0, c1, i0, i1 = f"{i} a", f"{i} b", 2 * i, 2 * i + 1
        f.append(s(c0, i0) > s(c1, i0) and s(c1, i1) > s(c0, i1))  # equation 1
        g.append(s(c0, i0) > s(c0, i1) and s(c1, i1) > s(c1, i0))  # equation 2
    h = np.logical_and(f, g)  # equation 3
    expected = {"text_acc": np.mean(f), "image_acc": np.mean(g), "acc": np.mean(h)}
    assert len(set(expected.values())) == 3
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    for k, tag in enumerate(("Object", "Relation", "Both")):
        assert metrics[f"acc/{tag}"] == pytest.approx(np.mean(h[k::3]))


def test_a_file_without_tags_has_no_categories(tmp_path):
    assert evaluator_of(tmp_path, 2, tags=(None,)).metric_names == ("text_acc", "image_acc", "acc")
