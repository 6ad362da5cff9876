"""Evaluator of representations on both sets of images of `shapes` and on other data, and the block of a recipe."""

import importlib
import json
import logging
import re

import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from teacher_models import images, tiny_clip
from torch import nn

import hf_clip_kd as kd
from hf_clip_kd.data import load_image_text
from hf_clip_kd.data.shapes import QUESTION_TYPES, load_shapes
from hf_clip_kd.evaluation import RepresentationEvaluator, SequentialEvaluator, build_evaluator, load_results
from hf_clip_kd.evaluation.encode import encode_texts
from hf_clip_kd.evaluation.representation import NOT_SHARES, ProbeScore, gromov_wasserstein, linear_cka
from hf_clip_kd.evaluation.representation import evaluator as evaluator_module
from hf_clip_kd.evaluation.representation.reading import read_images
from hf_clip_kd.evaluation.representation.rows import unique_images
from recipes import evaluate


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Keep probes short. Another file tests their learning."""
    probe = importlib.import_module("hf_clip_kd.evaluation.representation.attentive_probe")
    for length in ("LEAST_STEPS", "STEPS_PER_TYPE", "PASSES"):
        monkeypatch.setattr(probe, length, 1)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(1)
    return kd.load_clip("test-vit")


@pytest.fixture(scope="module")
def teacher(student):
    torch.manual_seed(2)
    model, its_processor = kd.load_clip("test-resnet")
    return kd.CLIPTeacher(model, processor=its_processor)


def questions(images=40, **options):
    dataset = load_shapes("test", size=6 * images, vqa=True)
    columns = {"question_column": "question", "answers_column": "answers", "question_type_column": "question_type"}
    return RepresentationEvaluator(dataset, **columns, **options)


def test_classification_images(student, teacher):
    dataset = load_shapes("zero_shot", size=192)
    evaluator = RepresentationEvaluator(dataset, teacher=teacher, label_column="label", batch_size=16)
    assert evaluator.primary_metric == "linear_probe"
    metrics = evaluator(*student)
    assert tuple(metrics) == evaluator.metric_names == (
        "cka", "cka_tokens", "a_score", "effective_rank", "token_norm", "token_norm_cv", "token_outliers",
        "channel_outliers", "linear_probe", "knn_probe", "linear_probe_tokens", "knn_probe_tokens", "patch_text_acc1",
    )  # fmt: skip
    assert all(-0.1 <= value <= 1 for metric, value in metrics.items() if metric not in NOT_SHARES)
    layers = evaluator.details["representation_maps"]["cka"]
    depths = [model.config.vision_config.num_hidden_layers for model in (teacher.model, student[0])]
    assert [len(layers), len(layers[0])] == depths
    assert layers[-2][-2] == metrics["cka_tokens"]
    pixels, theirs = (
        p.image_processor(dataset[:]["image"], return_tensors="pt")["pixel_values"]
        for p in (student[1], teacher.processor)
    )
    with torch.no_grad():
        embeds, other = student[0].eval().get_image_features(pixels).pooler_output, teacher.get_image_features(theirs)
    unit = [nn.functional.normalize(values, dim=-1) for values in (embeds, other)]
    assert metrics["cka"] == pytest.approx(linear_cka(*unit), abs=1e-5)


def test_vqa_images(student, teacher):
    evaluator = questions(teacher=teacher, text_column="text", batch_size=16)
    assert len(evaluator.images) == 40  # each once, not once for each question
    assert evaluator.primary_metric == "question_probe"
    metrics = evaluator(*student)
    by_type = [metrics[f"question_probe/{kind}"] for kind in QUESTION_TYPES]
    assert metrics["question_probe"] == pytest.approx(sum(by_type) / 6)
    assert {"cka", "cka_tokens", "effective_rank", "patch_text_acc1"} <= set(metrics)
    assert set(metrics) == set(evaluator.metric_names)


def test_a_model_is_aligned_with_itself(student):
    teacher = kd.CLIPTeacher(student[0], processor=student[1])
    evaluator = RepresentationEvaluator(load_shapes("test", size=40), teacher=teacher, batch_size=8)
    metrics = evaluator(*student)
    assert metrics["cka"] == pytest.approx(1) and metrics["cka_tokens"] == pytest.approx(1)
    assert metrics["a_score"] == pytest.approx(1, abs=1e-3)
    layers = torch.tensor(evaluator.details["representation_maps"]["cka"])
    assert layers.diagonal().tolist() == pytest.approx([1] * len(layers))
    torch.testing.assert_close(layers, layers.T)


def test_without_a_teacher_nothing_is_compared(student):
    evaluator = RepresentationEvaluator(load_shapes("test", size=8))
    metrics = evaluator(*student)
    assert list(metrics) == list(evaluator.metric_names) and evaluator.primary_metric == "effective_rank"
    assert len(metrics) == 5 and evaluator.details == {}


def test_a_question_finds_its_image_whatever_the_order_of_rows():
    dataset = load_shapes("test", size=60, vqa=True)
    shuffled = dataset.select(torch.randperm(60).tolist())
    for rows in (dataset, shuffled):
        evaluator = RepresentationEvaluator(rows, question_column="question", answers_column="answers")
        pictures = [rows[i]["image"].tobytes() for i in evaluator.rows]
        assert len(pictures) == len(set(pictures)) == 10
        shown = [pictures[question.image] for question in evaluator.questions]
        assert shown == [image.tobytes() for image in rows["image"]]
        assert evaluator.kinds == ["all"]


def test_broken_images_are_left_out(student, caplog):
    rows = load_shapes("test", size=6 * 40, vqa=True).cast_column("image", Image(decode=False))[:]
    for row in range(6, 12):
        rows["image"][row] = {"bytes": b"no image", "path": None}
    features = Features(
        {"image": Image(), "text": Value("string"), "question": Value("string"), "answers": List(Value("string")),
         "question_type": Value("string")}
    )  # fmt: skip
    columns = {"question_column": "question", "answers_column": "answers", "question_type_column": "question_type"}
    evaluator = RepresentationEvaluator(Dataset.from_dict(rows, features), text_column="text", **columns)
    metrics = evaluator(*student)
    assert set(metrics) == set(evaluator.metric_names)
    assert "broken image" in caplog.text


def test_a_model_without_patches_in_the_joint_space(caplog):
    model, its_processor = tiny_clip()
    teacher = kd.CLIPTeacher(model.vision_model, processor=its_processor.image_processor)
    evaluator = RepresentationEvaluator(load_shapes("zero_shot", size=16), label_column="label", text_column="text")
    with caplog.at_level(logging.WARNING):
        metrics = evaluator(teacher, teacher.processor)
    assert "patch_text_acc1" not in metrics and "linear_probe" in metrics
    assert "embeds no texts" in caplog.text


def test_pairs_of_images_and_texts(student):
    """The metric is that of the mean tokens and the embeddings of the captions, for as many pairs as wanted."""
    dataset = load_shapes("test", size=12)
    evaluator = RepresentationEvaluator(dataset, text_column="text", gromov_wasserstein=8)
    found = evaluator(*student)["gromov_wasserstein"]
    rows = dataset.select(evaluator.rows[:8])
    tokens = read_images(*student, rows["image"], layer=-2, batch_size=8).token_means
    texts = encode_texts(*student, rows["text"], batch_size=8)
    assert found == pytest.approx(gromov_wasserstein(tokens, texts), rel=1e-3) and found > 0


def test_pairs_of_a_model_without_texts(caplog):
    model, its_processor = tiny_clip()
    teacher = kd.CLIPTeacher(model.vision_model, processor=its_processor.image_processor)
    evaluator = RepresentationEvaluator(load_shapes("test", size=8), text_column="text", gromov_wasserstein=8)
    with caplog.at_level(logging.WARNING):
        assert "gromov_wasserstein" not in evaluator(teacher, teacher.processor)
    assert "embeds no texts. Pass `language_model`" in caplog.text


def test_a_probe_that_wants_more_images_says_so(student, monkeypatch, caplog):
    score = ProbeScore(
        accuracy=0.7, by_type={"count": 0.7}, stderr=0.02, curve={15: 0.6, 30: 0.7}, held_out=10, steps=3
    )
    monkeypatch.setattr(evaluator_module, "question_probe", lambda tokens, asked: score)
    evaluator = questions(40)
    with caplog.at_level(logging.WARNING):
        metrics = evaluator(*student)
    assert metrics["question_probe"] == 0.7 and metrics["question_probe_stderr"] == 0.02
    assert "rose by 10.0 points when its images doubled to 30" in caplog.text
    assert evaluator.details["question_probe"] == {
        "images": [15, 30], "accuracy": [0.6, 0.7], "rising": True, "held_out_images": 10, "steps": 3, "seed": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("point", "shown"),
    [({"name": "eye", "x": 3.0, "y": 0.5}, "'x': 3.0"), ({"name": "eye", "x": 0.5}, "'x': 0.5"), ([1, 2], "[1, 2]")],
)
def test_points_of_another_form(point, shown):
    dataset = load_shapes("test", size=1).add_column("points", [[point]])
    with pytest.raises(ValueError, match=rf"`keypoint_column='points'` holds .*{re.escape(shown)}.*Divide places"):
        RepresentationEvaluator(dataset, keypoint_column="points")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gromov_wasserstein": 2, "text_column": "text"}, "`gromov_wasserstein=2` and .* 3 pairs or more"),
        ({"gromov_wasserstein": 9}, "whose data have 0 texts, measure nothing.*with `text_column`"),
        ({"language_model": "x", "text_column": "text"}, "`language_model='x'`.*pass `gromov_wasserstein=1000`"),
        ({"question_column": "question"}, "`answers_column=None`.*needs both.*Pass the other one"),
        ({"label_column": "label"}, "`label_column='label'` of evaluator 'representation' is not a column"),
        ({"mask_column": "mask"}, "`mask_column='mask'`"),
    ],
)
def test_bad_columns(options, message):
    with pytest.raises(ValueError, match=message):
        RepresentationEvaluator(load_shapes("test", size=6, vqa=True), **options)


@pytest.mark.parametrize("layer", [-9, 0, 1])
def test_bad_layer(student, layer):
    with pytest.raises(
        ValueError, match=rf"layer={layer} does not exist .*counted from the end, -1 to -\d.*Pass `layer=-1`"
    ):
        RepresentationEvaluator(load_shapes("test", size=8), layer=layer)(*student)


def test_diverged_model():
    model, its_processor = kd.load_clip("test-vit")
    model.vision_model.encoder.layers[0].mlp.fc1.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="tokens at layer=-1 are not finite"):
        RepresentationEvaluator(load_shapes("test", size=8), layer=-1)(model, its_processor)


BLOCK = {
    "classification": {"task": "representation", "dataset_name": "shapes", "split": "zero_shot", "max_samples": 192},
    "vqa": {"task": "representation", "dataset_name": "shapes", "split": "test", "vqa": True, "max_samples": 240},
}


def test_block_of_a_recipe():
    classification, vqa = build_evaluator(BLOCK, load_image_text).evaluators
    assert {"linear_probe", "patch_text_acc1", "patch_text_pointing"} <= set(classification.metric_names)
    assert len(classification.prompts) == 64 and len(classification.prompts[0]) == 8  # the templates of `shapes`
    assert {"patch_text_acc1", "question_probe/count"} <= set(vqa.metric_names)
    assert not {"linear_probe", "patch_text_pointing", "cka"} & set(vqa.metric_names)
    for evaluator in (classification, vqa):
        assert "c_score" in evaluator.metric_names and len(evaluator.keypoints) == len(evaluator.images)
    captions = [vqa.prompts[own][0] for own in vqa.own_text]
    for caption, points in zip(captions, vqa.keypoints, strict=True):
        assert points[0].name.split()[1] in caption  # the first object is always named


def test_questions_of_shapes_are_many_by_default():
    asked = {}
    block = {"vqa": {"task": "representation", "dataset_name": "shapes", "vqa": True}}

    def load(**options):
        asked.update(options)
        return load_shapes("test", size=12, vqa=True)

    build_evaluator(block, load)
    assert asked["max_samples"] == 24_000


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label_column": "label"}, {"linear_probe"}),
        ({"label_column": "label", "text_column": "label"}, {"linear_probe", "patch_text_acc1"}),
        ({"question_column": "question", "answers_column": "answer"}, {"question_probe"}),
        ({"text_column": "caption"}, {"patch_text_acc1"}),
    ],
)
def test_own_images(tmp_path, columns, expected):
    images(1)[0].save(tmp_path / "0.png")
    table = tmp_path / "table.csv"
    table.write_text(f"image,label,question,answer,caption\n{tmp_path / '0.png'},cat,what is it?,a cat,one cat\n")
    block = {"task": "representation", "dataset_name": str(table)} | columns
    evaluator = build_evaluator({"own": block}, load_image_text).evaluators[0]
    assert {"linear_probe", "patch_text_acc1", "question_probe"} & set(evaluator.metric_names) == expected


def test_options_are_checked():
    for option, message in (
        ("class_names", "no argument of the task 'representation'"),
        ("teachr", "Did you mean `teacher`"),
    ):
        with pytest.raises(ValueError, match=message):
            build_evaluator({"vqa": BLOCK["vqa"] | {option: "x"}}, load_image_text)
    with pytest.raises(ValueError, match="'vqa' is no argument of the task 'zero_shot'"):
        build_evaluator({"zero_shot": {"dataset_name": "shapes", "vqa": True}}, load_image_text)


def test_two_sets_of_images_keep_their_names():
    both = SequentialEvaluator(
        [questions(20, name="vqa"), RepresentationEvaluator(load_shapes("test", size=8), name="plain")]
    )
    assert {"vqa/effective_rank", "plain/effective_rank", "question_probe/count"} <= set(both.metric_names)


def test_results_of_a_recipe(student, tmp_path, capsys):
    folder, empty = tmp_path / "student", tmp_path / "empty.yaml"
    for part in student:
        part.save_pretrained(folder)
    empty.write_text("")
    block = {name: options | {"teacher": str(folder)} for name, options in BLOCK.items()}
    flags = [
        "--model_name_or_path",
        str(folder),
        "--evaluation",
        json.dumps(block),
        "--output_dir",
        str(tmp_path / "results"),
    ]
    rows = evaluate.main(["--config", str(empty), *flags])
    scores = rows[str(folder)]
    assert scores["classification/cka"] == pytest.approx(1) and scores["vqa/cka_tokens"] == pytest.approx(1)
    records = {record["dataset"]: record for record in load_results(tmp_path / "results")}
    assert set(records) == {"shapes/zero_shot", "shapes/test"}
    for record in records.values():
        assert record["task"] == "representation"
        depth = student[0].config.vision_config.num_hidden_layers
        assert torch.tensor(record["representation_maps"]["cka"]).shape == (depth, depth)
    assert records["shapes/test"]["metrics"]["question_probe"] == scores["question_probe"]
    shown = capsys.readouterr().out
    assert f"{scores['vqa/effective_rank']:.2f}" in shown and f"{100 * scores['linear_probe']:.1f}" in shown


def test_an_empty_image_cell_counts_as_an_image_that_is_left_out():
    cells = [{"bytes": b"a", "path": None}, None, {"bytes": b"a", "path": None}]
    dataset = Dataset.from_dict({"image": cells}, features=Features({"image": Image(decode=False)}))
    rows, places = unique_images(dataset, "image")
    assert sorted(rows) == [0, 1] and places[0] == places[2] != places[1]
