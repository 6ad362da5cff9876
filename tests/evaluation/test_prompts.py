"""Class names, prompts and result files."""

import json
import os

import pytest

from hf_clip_kd.evaluation import (
    list_class_names,
    list_templates,
    load_class_names,
    load_results,
    load_templates,
    save_results,
)
from hf_clip_kd.recipe_io.format_version import CURRENT, NAME

# ---- Names and prompts ----

SIZES = {
    "cifar10": 10, "cifar100": 100, "dtd": 47, "eurosat": 10, "fashion_mnist": 10, "food101": 101,
    "imagenet1k": 1000, "mnist": 10, "oxford_pets": 37, "stl10": 10, "svhn": 10,
}  # fmt: skip


def test_class_names_are_complete():
    assert {name: len(load_class_names(name)) for name in list_class_names()} == SIZES
    for name in set(SIZES) - {"imagenet1k"}:
        assert len(set(load_class_names(name))) == SIZES[name]


def test_every_template_takes_a_name():
    from hf_clip_kd.data.shapes import SHAPES_TEMPLATES

    counts = {name: len(load_templates(name)) for name in list_templates()}
    assert counts["imagenet1k"] == 80 and counts["imagenet1k_simple"] == 7 and counts["cifar10"] == 18
    assert load_templates("imagenet1k")[0] == "a bad photo of a {}."
    assert load_templates("shapes") == list(SHAPES_TEMPLATES)
    assert load_templates(["a {c}."]) == ["a {}."]


def test_lists_from_json_files(tmp_path):
    path = tmp_path / "names.json"
    path.write_text('["cat", "dog"]')
    assert load_class_names(path) == load_class_names(str(path)) == ["cat", "dog"]
    path.write_text('{"cat": 0}')
    with pytest.raises(ValueError, match="names.json` is no list of strings"):
        load_class_names(path)
    path.write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="names.json: line 1 is no JSON"):
        load_class_names(path)


# ---- Results ----


def test_results_have_the_shape_of_clip_benchmark(tmp_path):
    arguments = {
        "dataset": "shapes/zero_shot", "model": "ViT-B-16", "pretrained": "tag", "task": "zeroshot_classification",
        "metrics": {"acc1": 0.5}, "config": {"batch_size": 8},
    }  # fmt: skip
    path = save_results(tmp_path / "results", **arguments)
    assert path.name == "shapes-zero_shot_ViT-B-16_tag_zeroshot_classification.json"
    save_results(tmp_path / "results", **arguments | {"metrics": {"acc1": 0.75}})
    (record,) = load_results(tmp_path / "results")
    added = {"language": "en", NAME: CURRENT["result"]}
    assert record == arguments | {"metrics": {"acc1": 0.75}} | added
    assert os.listdir(tmp_path / "results") == [path.name]  # no temporary file is left


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path):
    arguments = {"dataset": "d", "model": "m", "task": "t", "config": {}}
    path = save_results(tmp_path, metrics={"acc1": 0.5}, **arguments)
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_results(tmp_path, metrics={"acc1": float("nan")}, **arguments)
    assert json.loads(path.read_text())["metrics"] == {"acc1": 0.5}


def test_lines_of_a_text_file_are_names_or_templates(tmp_path):
    (tmp_path / "classnames.txt").write_text("cat \ndog\r\ncat\n\n")
    assert load_class_names(tmp_path / "classnames.txt") == ["cat", "dog", "cat"]
    (tmp_path / "templates.txt").write_text("a {c}.\nthe {c}!\n")
    assert load_templates(str(tmp_path / "templates.txt")) == ["a {}.", "the {}!"]
    (tmp_path / "classnames.txt").write_text("cat\n\ndog\n")
    with pytest.raises(ValueError, match=r"classnames\.txt: line 2 is empty.*a text on each line"):
        load_class_names(tmp_path / "classnames.txt")
