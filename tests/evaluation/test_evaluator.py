"""Behaviour that all evaluators share: names of metrics, modes of the model, bad features and bad data."""

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, Value
from known_model import KnownModel, known_processor, make_captioned, make_labelled

from hf_clip_kd.evaluation import (
    RepresentationEvaluator,
    RetrievalEvaluator,
    SequentialEvaluator,
    ZeroShotClassificationEvaluator,
    load_results,
    measure,
)


def two_evaluators():
    dataset = make_labelled([0, 1], ["a", "b"])
    return (
        ZeroShotClassificationEvaluator(dataset, templates=["{}"]),
        RetrievalEvaluator(make_captioned(["a", "b"])),
        KnownModel(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)),
        known_processor(["a", "b"]),
    )


def test_sequential_keeps_plain_names():
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    both = SequentialEvaluator([zero_shot, retrieval_evaluator])
    assert both(model, processor) == zero_shot(model, processor) | retrieval_evaluator(model, processor)
    assert both.primary_metric == "acc1" and both.greater_is_better
    assert set(both.metric_names) == set(both(model, processor))


def test_sequential_prefixes_what_several_return():
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    other = ZeroShotClassificationEvaluator(make_labelled([1, 0], ["a", "b"]), templates=["{}"], name="other")
    metrics = SequentialEvaluator([zero_shot, other, retrieval_evaluator])
    scores = metrics(model, processor)
    assert scores["zero_shot/acc1"] == 1 and scores["other/acc1"] == 0 and "acc1" not in scores
    assert scores["image_retrieval_recall@1"] == 1
    assert metrics.primary_metric == "zero_shot/acc1"


def test_counts_of_what_was_scored(tmp_path, caplog):
    dataset = make_labelled([0, 1] * 20, ["a", "b"]).to_list()
    dataset[3]["image"] = {"bytes": b"", "path": "broken.png"}
    features = make_labelled([0], ["a", "b"]).features
    rows = Dataset.from_list(dataset, features=features)
    zero_shot = ZeroShotClassificationEvaluator(rows, ["a", "b", "c"], templates=["{}", "a {}"])
    retrieval = RetrievalEvaluator(make_captioned([["a", "x"], ["b"]]))
    texts = ["a", "a a", "b", "a b", "c", "a c", "x"]
    model = KnownModel(np.eye(40, dtype=np.float32), np.eye(7, 40, dtype=np.float32))
    both, evaluation = SequentialEvaluator([zero_shot, retrieval]), {"dataset_name": "d"}
    blocks = {"zero_shot": evaluation, "retrieval": evaluation}
    with caplog.at_level(logging.INFO, "hf_clip_kd"):
        measure(both, model, known_processor(texts), blocks, folder=tmp_path, name="m", config={})
    assert "zero_shot scored 39 images, 2 classes, 3 class_names, 6 texts." in caplog.text
    found = {record["task"]: {k: v for k, v in record.items() if k[:2] == "n_"} for record in load_results(tmp_path)}
    assert found == {
        "zeroshot_classification": {"n_images": 39, "n_classes": 2, "n_class_names": 3, "n_texts": 6},
        "zeroshot_retrieval": {"n_images": 2, "n_texts": 3},
    }


ONE = {
    "one class": lambda: ZeroShotClassificationEvaluator(make_labelled([0, 0], ["a"]), templates=["{}"]),
    "one pair": lambda: RetrievalEvaluator(make_captioned(["a"])),
    "one image": lambda: RetrievalEvaluator(make_captioned([["a", "b"]])),
    "one class of a probe": lambda: RepresentationEvaluator(make_labelled([0] * 6, ["a"]), label_column="label"),
    "two probed images": lambda: RepresentationEvaluator(make_labelled([0, 1], ["a", "b"]), label_column="label"),
}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_a_score_of_one_candidate_is_refused(make, tmp_path):
    evaluator = make()
    with pytest.raises(ValueError, match=r"would score \d .* so its numbers would say nothing.*at least [25]"):
        model = KnownModel(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
        evaluation = {evaluator.name: {"dataset_name": "d"}}
        whole = SequentialEvaluator([evaluator])
        measure(whole, model, known_processor(["a", "b"]), evaluation, folder=tmp_path, name="m", config={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_restored(fails):
    evaluator, _, model, processor = two_evaluators()
    model.train()
    model.frozen.eval()
    if fails:
        model.images.data[0] = torch.nan
        with pytest.raises(ValueError, match="image features are not finite"):
            evaluator(model, processor)
    else:
        assert evaluator(model, processor)["acc1"] == 1  # dropout was off
    assert model.training and model.dropout.training and not model.frozen.training


@pytest.mark.parametrize(("tower", "value"), [("images", torch.nan), ("texts", torch.inf)])
def test_features_that_are_not_finite_do_not_score(tower, value):
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    getattr(model, tower).data[1, 0] = value
    for evaluator in (zero_shot, retrieval_evaluator):
        with pytest.raises(ValueError, match=f"{tower[:-1]} features are not finite .* first at row 1"):
            evaluator(model, processor)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: ZeroShotClassificationEvaluator(d, image_column="img"), r"`image_column='img'`.*'image', 'label'"),
        (lambda d: ZeroShotClassificationEvaluator(d, label_column="y"), r"`label_column='y'`.*Pass one of them"),
        (lambda d: ZeroShotClassificationEvaluator(d, ["a"]), r"1 labels .* first is 1\. .* from 0 to 0"),
        (lambda d: ZeroShotClassificationEvaluator(d, []), r"`class_names=\[\]` .* non-empty list"),
        (lambda d: ZeroShotClassificationEvaluator(d, "cifar"), "`class_names='cifar'`.*cifar10"),
        (lambda d: ZeroShotClassificationEvaluator(d, templates=["a photo."]), r"'a photo\.' has no place .*\{\}"),
        (lambda d: ZeroShotClassificationEvaluator(d, templates="openai"), "`templates='openai'`.*imagenet1k"),
        (lambda d: ZeroShotClassificationEvaluator(d.select([])), "'zero_shot' is empty"),
        (
            lambda d: ZeroShotClassificationEvaluator(d.to_iterable_dataset()),
            "is a IterableDataset.*without streaming",
        ),
        (lambda d: ZeroShotClassificationEvaluator(d.cast_column("label", Value("int64"))), "brings no names"),
        (lambda d: ZeroShotClassificationEvaluator(make_labelled([0, -1], ["a", "b"])), "Label -1 marks a split"),
        (lambda d: RetrievalEvaluator(d), r"`text_column='text'`.*\['image', 'label'\]"),
        (lambda d: RetrievalEvaluator(make_captioned([["a"], []])), r"Row 1 of column 'text'.*holds \[\]"),
        (lambda d: RetrievalEvaluator(make_captioned(["a", None])), "Row 1 .*holds .?None"),
        (lambda d: RetrievalEvaluator(make_captioned(["a"]).select([])), "'retrieval' is empty"),
        (lambda d: SequentialEvaluator([]), "`evaluators` is empty"),
        (lambda d: SequentialEvaluator([RetrievalEvaluator(make_captioned(["a"]))] * 2), "same name.*`name=...`"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_labelled([0, 1], ["a", "b"]))
