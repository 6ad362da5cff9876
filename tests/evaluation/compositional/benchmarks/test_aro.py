"""ARO: boxes of pictures, macro accuracies and order of words, by hand and against the authors' rules."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from caption_files import FAR, NEAR, TIED, model_of, write_json, write_pictures
from known_model import unit
from PIL import Image

from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.compositional import COMPOSITIONAL

BOX = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 2, "bbox_h": 2}


def evaluator_of(folder, name, rows):
    block = {"task": "compositional", "dataset_name": name, "image_folder": str(folder / "images")}
    block["annotations"] = str(write_json(folder / "rows.json", rows))
    (evaluator,) = build_evaluator({name: block}, load=None).evaluators
    return evaluator


def relation(name, right, wrong, image="0.jpg", **box):
    return {"image_path": image, "relation_name": name, "true_caption": right, "false_caption": wrong} | BOX | box


def test_relations_by_hand(tmp_path):
    write_pictures(tmp_path / "images", ["0.jpg"])
    right, wrong, tie = ("near", "far"), ("far", "near"), ("tied", "tied, too")
    rows = [relation("behind", *pair) for pair in (right, right, right, wrong)]
    rows += [relation("on", *tie), relation("on", *right), relation("next to", *right)]
    evaluator = evaluator_of(tmp_path, "vg_relation", rows)
    metrics = evaluator(*model_of({"near": NEAR, "far": FAR, "tied": TIED, "tied, too": TIED}))
    # `next to` is symmetric: it counts for the mean over cases alone.
    assert metrics == pytest.approx({"text_acc": 5 / 7, "macro_acc": (3 / 4 + 1 / 2) / 2})
    assert evaluator.primary_metric == "macro_acc"
    assert evaluator.details["by_category"]["next to"] == {"n_cases": 1, "text_acc": 1.0}


def test_only_the_box_is_shown(tmp_path):
    picture = Image.new("RGB", (4, 2), (0, 0, 0))
    picture.paste((1, 0, 0), (2, 0, 4, 2))
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images/0.jpg", "PNG")
    rows = [relation("on", "left", "right"), relation("on", "right", "left", bbox_x=2)]
    evaluator = evaluator_of(tmp_path, "vg_relation", rows)
    assert evaluator.counts["n_images"] == 2
    assert evaluator(*model_of({"left": NEAR, "right": FAR}, [NEAR, FAR]))["text_acc"] == 1
    assert evaluator(*model_of({"left": NEAR, "right": FAR}, [NEAR, NEAR]))["text_acc"] == 1 / 2


def test_attributes_need_25_cases_of_a_pair(tmp_path):
    write_pictures(tmp_path / "images", ["0.jpg"])
    rows = []
    for first, number, hits in (("red", 25, 20), ("old", 30, 6), ("wet", 24, 24)):
        for i in range(number):
            right, wrong = ("near", "far") if i < hits else ("far", "near")
            row = relation("", right, wrong) | {"attributes": [first, "blue"]}
            rows.append({key: value for key, value in row.items() if key != "relation_name"})
    metrics = evaluator_of(tmp_path, "vg_attribution", rows)(*model_of({"near": NEAR, "far": FAR}))
    assert metrics == pytest.approx({"text_acc": 50 / 79, "macro_acc": (20 / 25 + 6 / 30) / 2})


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("vg_relation", ["on", "behind", "next to", "under"]), ("vg_attribution", ["red_old", "wet_blue", "big_tall"])],
)
def test_macro_accuracy_agrees_with_a_table(tmp_path, name, kinds):
    """The authors make a table of records. They take means by relation, or by pair of attributes, then over these."""
    rng = np.random.default_rng(3)
    write_pictures(tmp_path / "images", [f"{i}.jpg" for i in range(8)])
    images = rng.normal(size=(8, 5))
    chosen = rng.choice(kinds, size=120, p=[0.1, *[0.9 / (len(kinds) - 1)] * (len(kinds) - 1)])
    rows, records, texts = [], [], {}
    for i, kind in enumerate(chosen):
        own, pair = images[i % 8], (f"{i} true", f"{i} false")
        texts |= {pair[0]: rng.normal(size=5) + 0.4 * own, pair[1]: rng.normal(size=5)}
        row = relation(kind, *pair, image=f"{i % 8}.jpg")
        if name == "vg_attribution":
            row["attributes"] = row.pop("relation_name").split("_")
        rows.append(row)
        near = [unit(own) @ unit(texts[caption]) for caption in pair]
        records.append({"kind": kind, "right": near[0] > near[1]})
    table = pd.DataFrame(records).groupby("kind")["right"].agg(["mean", "size"])
    table = table[table["size"] >= 25] if name == "vg_attribution" else table.drop("next to")
    assert 1 < len(table) < len(kinds)
    metrics = evaluator_of(tmp_path, name, rows)(*model_of(texts, images))
    assert metrics["macro_acc"] == pytest.approx(table["mean"].mean())
    assert metrics["text_acc"] == pytest.approx(np.mean([record["right"] for record in records]))
    assert metrics["macro_acc"] != pytest.approx(metrics["text_acc"])


@pytest.mark.parametrize("name", ["coco_order", "flickr30k_order"])
def test_order_agrees_with_precision_at_1(tmp_path, name):
    rng, number = np.random.default_rng(2), 50
    names = [f"{i}.jpg" for i in range(10)]
    write_pictures(tmp_path / "images", names)
    images = rng.normal(size=(10, 4))
    rows = [{"image": names[i % 10], "caption_options": [f"{i} {j}" for j in range(5)]} for i in range(number)]
    texts = {text: rng.normal(size=4) for row in rows for text in row["caption_options"]}
    for i in range(number):  # the true caption is somewhat nearer
        texts[f"{i} 0"] = texts[f"{i} 0"] + 0.5 * images[i % 10]
    metrics = evaluator_of(tmp_path, name, rows)(*model_of(texts, images))
    scores = [[unit(images[i % 10]) @ unit(texts[f"{i} {j}"]) for j in range(5)] for i in range(number)]
    assert metrics == pytest.approx({"text_acc": np.mean(np.argmax(scores, axis=1) == 0)})
    assert 0.2 < metrics["text_acc"] < 0.8


def test_a_shuffle_that_changes_nothing_is_no_error_of_the_model(tmp_path):
    write_pictures(tmp_path / "images", ["0.jpg"])
    options = ["near", "near", "far", "near", "far"]
    evaluator = evaluator_of(tmp_path, "coco_order", [{"image": "0.jpg", "caption_options": options}])
    assert evaluator(*model_of({"near": NEAR, "far": FAR}))["text_acc"] == 1


def test_a_fault_of_a_row_is_named(tmp_path):
    write_pictures(tmp_path / "images", ["0.jpg"])
    with pytest.raises(ValueError, match=r"rows.json: case 0 has the box \[0, 0, 0, 2\]"):
        evaluator_of(tmp_path, "vg_relation", [relation("on", "a", "b", bbox_w=0)])
    with pytest.raises(ValueError, match="case 0 has no .*caption_options.*COCO_Order.*test_cases"):
        evaluator_of(tmp_path, "coco_order", [{"image": "0.jpg", "caption": ["a"]}])
    with pytest.raises(ValueError, match="case 1 has the same caption twice"):
        evaluator_of(tmp_path, "vg_relation", [relation("on", "a", "b"), relation("on", "a", "a")])


def test_left_out_relations_are_those_of_the_notebook():
    left_out = COMPOSITIONAL["vg_relation"].left_out
    assert len(left_out) == 157 and {"next to", "near", "beside", "adjusting"} <= left_out
    # The checksum was made of the notebook's own list.
    assert hashlib.sha256("\n".join(sorted(left_out)).encode()).hexdigest()[:16] == "3d3d8797704fc28a"
    assert not {"behind", "on", "under", "to the left of", "holding"} & left_out
