"""VQA metrics by hand, against independent computation."""

import json
import math
import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from hf_clip_kd.evaluation.vqa import METRICS, metric_path
from hf_clip_kd.evaluation.vqa.mme import COGNITION, PERCEPTION, read_yes_no
from hf_clip_kd.evaluation.vqa.mmmu_parsing import open_is_correct, read_choice
from hf_clip_kd.evaluation.vqa.pope import says_yes
from hf_clip_kd.evaluation.vqa.scienceqa import read_letter

REFERENCE = {"answers": ["yes"], "choices": ["yes", "no"], "category": "color", "image": "1.jpg"}


def references(name, *rows):
    fields = METRICS[name].reference_fields
    return [{field: ({**REFERENCE, **row})[field] for field in fields} for row in rows]


def compute(name, predictions, *rows, n_resamples=0, **options):
    metric = METRICS[name]()
    return metric.compute(
        predictions=predictions, references=references(name, *rows), n_resamples=n_resamples, **options
    )


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_did(name):
    rows = [{}, {"answers": ["no"]}] * 2 if name != "mme" else [{}, {"answers": ["no"]}]
    predictions = ["yes", "", "no", "yes"][: len(rows)]
    found = compute(name, predictions, *rows, n_resamples=20)
    json.dumps(found, allow_nan=False)
    assert (found["benchmark"], found["protocol"], found["n_samples"]) == (name, "llava", len(rows))
    assert len(found["scores"]) == len(rows)
    assert found["bootstrap"] == {
        "unit": METRICS[name].unit,
        "n_resamples": 20,
        "confidence_level": 0.95,
        "seed": 0,
    }
    for metric, (low, high) in found["confidence_intervals"].items():
        assert low <= found[metric] <= high
    for protocol in METRICS[name].protocols:
        assert compute(name, predictions, *rows, protocol=protocol)["protocol"] == protocol


def test_add_batch_then_compute():
    metric = METRICS["gqa"]()
    for answer in ("yes", "No."):
        metric.add_batch(predictions=[answer], references=references("gqa", {"answers": [answer.lower().strip(".")]}))
    assert metric.compute(n_resamples=0)["accuracy"] == 1


def test_vqav2_by_answer_type():
    ten = ["red"] * 3 + ["blue"] * 7
    found = compute(
        "vqav2",
        ["Red.", "no", "blue"],
        {"answers": ten, "category": "other"},
        {"answers": ["yes"] * 10, "category": "yes/no"},
        {"answers": ten, "category": "other"},
    )
    assert found["scores"] == pytest.approx([0.9, 0, 1])
    assert found["accuracy"] == pytest.approx(1.9 / 3)
    assert (found["other/accuracy"], found["yes/no/accuracy"]) == (pytest.approx(0.95), 0)


def test_gqa():
    rows = [
        {"answers": ["couch"], "category": "query"},
        {"answers": ["yes"], "category": "verify"},
        {"answers": ["t-shirt"], "category": "query"},
        {"answers": ["left"], "category": "choose"},
    ]
    predictions = ["Couch.", "yes, it is", "t shirt", ""]
    found = compute("gqa", predictions, *rows)
    assert found["scores"] == [1, 0, 0, 0]
    assert (found["accuracy"], found["open"], found["binary"], found["query/accuracy"]) == (0.25, 0.5, 0, 0.5)
    found = compute("gqa", ["Couch!", "yes", "TShirt", "left"], *rows, protocol="lmms_eval")
    assert found["scores"] == [1, 1, 1, 1]


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
def test_pope_reads_as_llava_does(text, yes):
    assert says_yes(text) is yes


def random_pope(n=300):
    rng = random.Random(1)
    rows = [
        {"answers": [rng.choice(["yes", "no"])], "category": rng.choice(["adversarial", "popular"])} for _ in range(n)
    ]
    return [rng.choice(["Yes", "No", "yes", "no"]) for _ in range(n)], rows


def test_pope_against_scikit_learn():
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


def test_pope_yes_ratio_is_that_of_the_predictions():
    rows = [{"answers": ["yes"], "category": "random"}, {"answers": ["no"], "category": "random"}]
    for protocol in ("llava", "lmms_eval"):
        assert compute("pope", ["yes", "yes"], *rows, protocol=protocol)["yes_ratio"] == 1


def test_pope_without_a_yes_has_no_division_by_zero():
    found = compute("pope", ["no"] * 2, {"category": "random"}, {"answers": ["no"], "category": "random"})
    assert (found["precision"], found["recall"], found["f1"], found["accuracy"]) == (0, 0, 0, 0.5)


def test_pope_of_lmms_eval_wants_the_exact_word():
    rows = [{"category": "random"}, {"category": "random"}, {"answers": ["no"], "category": "random"}]
    found = compute("pope", ["Yes.", " YES ", "nope"], *rows, protocol="lmms_eval")
    assert found["scores"] == [0, 1, 0]
    # The first and last answers are neither: one hit, nothing missed, nothing false.
    assert (found["precision"], found["recall"], found["yes_ratio"]) == (1, 1, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("Yes", "yes", "yes"),
        ("yes.", "yes", "yes"),
        ("No, it is not", "no", "no"),
        ("y", "other", "yes"),
        ("n.", "other", "no"),
        ("not yes", "no", "no"),
        ("noyes", "no", "no"),
        ("It is. No", "other", "other"),
        ("", "other", "other"),
        ("a no", "no", "no"),
    ],
)
def test_mme_reads_yes_and_no(text, llava, lmms_eval):
    assert (read_yes_no(text), read_yes_no(text, "lmms_eval")) == (llava, lmms_eval)


def mme_pairs(*subtasks, images=2):
    return [
        {"answers": [answer], "category": subtask, "image": f"{i}.jpg"}
        for subtask in subtasks
        for i in range(images)
        for answer in ("Yes", "No")
    ]


def test_mme_by_hand():
    # Two images of one subtask: one has both questions right, the other one.
    found = compute("mme", ["yes", "no", "yes", "yes"], *mme_pairs("color"))
    assert (found["color/accuracy"], found["color/accuracy_plus"], found["color/score"]) == (0.75, 0.5, 125)
    assert "perception" not in found and "cognition" not in found


def test_mme_sums():
    rows = mme_pairs(*PERCEPTION, *COGNITION)
    right = [row["answers"][0] for row in rows]
    found = compute("mme", right, *rows)
    assert (found["perception"], found["cognition"]) == (2000, 800)
    found = compute("mme", ["yes"] * len(rows), *rows)
    assert (found["perception"], found["cognition"]) == (500, 200)


def test_mme_needs_pairs():
    with pytest.raises(ValueError, match=r"do not have two questions.*'1.jpg'\), with 1.*read_mme"):
        compute("mme", ["yes"], {})


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("B", "B", "B"),
        ("b", "", "B"),
        ("B. red", "B", "B"),
        ("B.", "", "B"),
        ("B.red", "", "B"),
        ("The answer is B.", "B", ""),
        ("The answer is B", "", ""),
        ("The answer is B. The answer is C.", "", ""),
        ("red", "", ""),
        ("", "", ""),
        ("F", "", "F"),
    ],
)
def test_scienceqa_reads_letters(text, llava, lmms_eval):
    assert (read_letter(text), read_letter(text, "lmms_eval")) == (llava, lmms_eval)


def test_scienceqa_img_and_all():
    rows = [{"answers": ["A"], "image": "1/image.png"}, {"answers": ["B"], "image": None}, {"answers": ["B"]}]
    found = compute("scienceqa", ["A", "C", "A. red"], *rows)
    assert (found["accuracy"], found["accuracy_img"]) == (pytest.approx(1 / 3), 0.5)


def test_seedbench():
    rows = [{"answers": ["B"], "category": "Scene"}] * 4
    predictions = ["B", "B.", "b", ""]
    assert compute("seedbench", predictions, *rows)["scores"] == [1, 0, 0, 0]
    assert compute("seedbench", predictions, *rows, protocol="lmms_eval")["Scene/accuracy"] == 0.75


class NoLuck:
    def choice(self, letters):
        return "drawn"


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("B", "B", "B"),
        ("(B)", "B", "B"),
        ("B.", "B", "B"),
        ("(A) or (C)", "C", "C"),
        ("C or rather A", "A", "A"),
        ("(A) not B", "A", "A"),
        ("B. green", "drawn", "B"),
        ("TEXA green", "drawn", "A"),
        ("b", "drawn", "drawn"),
        ("", "drawn", "drawn"),
        ("it is green", "drawn", "drawn"),
        ("I think that it must be Green", "B", "B"),
        ("it may be green or it may be red", "A", "A"),
    ],
)
def test_mmmu_reads_letters(text, llava, lmms_eval):
    choices = ["red", "green", "blue"]
    assert read_choice(text, choices, NoLuck()) == llava
    assert read_choice(text, choices, NoLuck(), "lmms_eval") == lmms_eval


@pytest.mark.parametrize(
    ("text", "answers", "correct"),
    [
        ("12", ["12"], True),
        ("The answer is 12.004", ["12"], True),
        ("x = 1,234", ["1234"], True),
        ("1.5e3", ["1500"], True),
        ("So the total is $3.50", ["3.5"], True),
        ("13", ["12"], False),
        ("The lens is convex.", ["convex"], True),
        ("convex", ["concave", "convex"], True),
        ("answer x y", ["x"], True),
        ("axe", ["x"], False),
        ("", ["x"], False),
    ],
)
def test_mmmu_open_answers(text, answers, correct):
    assert open_is_correct(text, answers) is correct


def test_mmmu_draws_are_seeded_and_independent():
    rows = [{"answers": ["A"], "choices": list("wxyz"), "category": "Art"}] * 400
    found = compute("mmmu", ["?"] * 400, *rows, seed=3)
    assert found["scores"] == compute("mmmu", ["?"] * 400, *rows, seed=3)["scores"]
    assert found["scores"] != compute("mmmu", ["?"] * 400, *rows, seed=4)["scores"]
    assert found["scores"][1:] == compute("mmmu", ["A"] + ["?"] * 399, *rows, seed=3)["scores"][1:]
    assert found["Art/accuracy"] == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))


def test_mmmu_without_choices_is_open():
    found = compute("mmmu", ["it is 7"], {"answers": ["7"], "choices": []})
    assert found["accuracy"] == 1


def test_bootstrap_passes_over_resamples_without_the_category():
    found = compute("gqa", ["yes", "no"], {"category": "a"}, {"answers": ["no"], "category": "b"}, n_resamples=50)
    assert found["confidence_intervals"]["a/accuracy"] == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: compute("pope", ["yes"], {}, protocol="mine"),
            r"`protocol='mine'`.*\['llava', 'lmms_eval'\].*compute",
        ),
        (lambda: compute("pope", ["yes"], {"answers": []}), "Reference 0 of pope has no answer.*WRITERS"),
        (lambda: compute("pope", ["yes"], {"answers": ["maybe"]}), "'maybe'. It must be yes or no.*read_pope"),
        (lambda: compute("gqa", ["yes"], {}, confidence_level=95), "`confidence_level=95`.*between 0 and 1"),
        (lambda: metric_path("mmvet"), "no VQA metric 'mmvet'.*needs a judge"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
