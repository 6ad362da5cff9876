"""POPE: its files, and its scores against scikit-learn."""

import json
import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from vqa_benchmarks import S1, compute, lines

from hf_clip_kd.evaluation.vqa import METRICS, READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.pope import says_yes


def test_reader(put, tmp_path):
    row = {"question_id": 1, "image": "c.jpg", "text": "Is there a dog in the image?", "label": "no"}
    put("coco/coco_pope_popular.json", lines(row))
    put("coco/coco_pope_random.json", lines(row | {"label": "yes"}))
    popular, rand = READERS["pope"](tmp_path / "coco")
    assert popular == Sample("popular/1", "c.jpg", row["text"] + S1, ("no",), category="popular")
    assert (rand.question_id, rand.answers) == ("random/1", ("yes",))
    assert METRICS["pope"]().score([popular, rand], ["No", "Yes"])["accuracy"] == 1


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no, there is not", False),
        ("There is not", False),
        ("Yes. There is no dog.", True),
        ("NO", True),  # sic
        ("None", True),
        ("", True),
        ("maybe", True),
        ("\nno", True),  # sic: only spaces part words
    ],
)
def test_reads_as_llava_does(text, yes):
    assert says_yes(text) is yes


def random_pope(n=300):
    rng = random.Random(1)
    rows = [
        {"answers": [rng.choice(["yes", "no"])], "category": rng.choice(["adversarial", "popular"])} for _ in range(n)
    ]
    return [rng.choice(["Yes", "No", "yes", "no"]) for _ in range(n)], rows


def test_against_scikit_learn():
    predictions, rows = random_pope()
    found = compute("pope", predictions, *rows)
    pooled = compute("pope", predictions, *rows, protocol="lmms_eval")
    scores = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, score in scores.items():
        each = []
        for category in ("adversarial", "popular"):
            here = [i for i, row in enumerate(rows) if row["category"] == category]
            truth = [rows[i]["answers"] == ["yes"] for i in here]
            each.append(score(truth, [predictions[i].lower() == "yes" for i in here]))
            assert found[f"{category}/{name}"] == pytest.approx(each[-1])
        assert found[name] == pytest.approx(np.mean(each))
        truth = [row["answers"] == ["yes"] for row in rows]
        assert pooled[name] == pytest.approx(score(truth, [text.lower() == "yes" for text in predictions]))


def test_yes_ratio_is_that_of_the_predictions():
    rows = [{"answers": ["yes"], "category": "random"}, {"answers": ["no"], "category": "random"}]
    for protocol in ("llava", "lmms_eval"):
        assert compute("pope", ["yes", "yes"], *rows, protocol=protocol)["yes_ratio"] == 1


def test_without_a_yes_has_no_division_by_zero():
    found = compute("pope", ["no"] * 2, {"category": "random"}, {"answers": ["no"], "category": "random"})
    assert (found["precision"], found["recall"], found["f1"], found["accuracy"]) == (0, 0, 0, 0.5)


def test_lmms_eval_wants_the_exact_word():
    rows = [{"category": "random"}, {"category": "random"}, {"answers": ["no"], "category": "random"}]
    found = compute("pope", ["Yes.", " YES ", "nope"], *rows, protocol="lmms_eval")
    assert found["scores"] == [0, 1, 0]
    # The first and last answers are neither: one hit, nothing missed, nothing false.
    assert (found["precision"], found["recall"], found["yes_ratio"]) == (1, 1, pytest.approx(1 / 3))


def test_an_answer_is_yes_or_no():
    with pytest.raises(ValueError, match="'maybe'. It must be yes or no.*read_pope"):
        compute("pope", ["yes"], {"answers": ["maybe"]})


@pytest.mark.parametrize("label", ["Yes", "YES.", " yes"])
def test_a_label_in_any_form(label, put):
    row = {"question_id": 1, "image": "1.jpg", "text": "?", "label": label}
    (sample,) = READERS["pope"](put("x/coco_pope_random.json", json.dumps(row)).parent)
    assert METRICS["pope"]().score([sample], ["yes"], n_resamples=0)["accuracy"] == 1
    with pytest.raises(ValueError, match="random.json, line 1: the label is 'maybe', neither yes nor no"):
        READERS["pope"](put("x/coco_pope_random.json", json.dumps(row | {"label": "maybe"})).parent)


def test_wrong_files(put):
    with pytest.raises(ValueError, match="it holds no coco_pope_.*adversarial.*read_pope"):
        READERS["pope"](put("x/y", "").parent)
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        READERS["pope"](put("x/coco_pope_random.json", '{"a": 1}\nno').parent)
