"""Zero-shot metrics against scikit-learn and values worked out by hand, on a model with known embeddings."""

import numpy as np
import pytest
from known_model import KnownModel, known_processor, make_labelled, unit
from sklearn.metrics import balanced_accuracy_score

from hf_clip_kd.evaluation import ZeroShotClassificationEvaluator


def zero_shot_case(classes=12, rows=90, dim=6, templates=("a {}.", "the {}!", "{}"), seed=0):
    rng = np.random.default_rng(seed)
    names = [f"class {c}" for c in range(classes)]
    labels = np.minimum(rng.geometric(0.25, rows) - 1, classes - 2)  # skewed, and the last class never occurs
    prompts = [template.replace("{}", name) for name in names for template in templates]
    text_embeds = rng.normal(size=(len(prompts), dim)).astype(np.float32)
    image_embeds = (text_embeds[labels * len(templates)] + 2 * rng.normal(size=(rows, dim))).astype(np.float32)
    # Templates of one class with very different norms: the ensemble has to normalise before it averages.
    text_embeds[:: len(templates)] *= 30
    return (
        make_labelled(labels.tolist(), names),
        list(templates),
        KnownModel(image_embeds, text_embeds),
        prompts,
        labels,
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(("classes", "seed", "batch_size"), [(12, 0, 7), (12, 1, 128), (5, 2, 16), (4, 3, 16)])
def test_zero_shot_matches_topk_and_sklearn(classes, seed, batch_size):
    dataset, templates, model, prompts, labels = zero_shot_case(classes, seed=seed)
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=templates, batch_size=batch_size)
    metrics = evaluator(model, known_processor(prompts))

    texts = unit(model.texts.detach().numpy().astype(np.float64)).reshape(classes, len(templates), -1)
    scores = unit(model.images.detach().numpy().astype(np.float64)) @ unit(texts.mean(axis=1)).T
    ranked = np.argsort(-scores, axis=1)
    expected = {"acc1": np.mean(ranked[:, 0] == labels)}
    if classes >= 5:
        expected["acc5"] = np.mean([label in row[:5] for row, label in zip(ranked, labels, strict=True)])
    expected["mean_per_class_recall"] = balanced_accuracy_score(labels, ranked[:, 0])
    assert metrics == pytest.approx(expected, abs=1e-6)
    assert tuple(metrics) == evaluator.metric_names
    assert evaluator.primary_metric in metrics and evaluator.greater_is_better
    assert abs(metrics["acc1"] - metrics["mean_per_class_recall"]) > 1e-3  # the case tells the two apart


def test_zero_shot_by_hand():
    dataset = make_labelled([0, 0, 0, 1], ["cat", "dog"])
    images = np.array([[1, 0], [3, 1], [0, 2], [1, 9]], dtype=np.float32)
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=["{}"])
    metrics = evaluator(KnownModel(images, np.eye(2, dtype=np.float32)), known_processor(["cat", "dog"]))
    assert metrics == pytest.approx({"acc1": 3 / 4, "mean_per_class_recall": (2 / 3 + 1) / 2})


def test_collapsed_model_scores_like_guessing():
    dataset = make_labelled([0, 1, 2, 3, 4, 5, 6, 7], [f"class {c}" for c in range(8)])
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=["{}"])
    model = KnownModel(np.ones((8, 3), np.float32), np.ones((8, 3), np.float32))
    metrics = evaluator(model, known_processor(evaluator.class_names))
    assert metrics == pytest.approx({"acc1": 1 / 8, "acc5": 5 / 8, "mean_per_class_recall": 1 / 8})
