"""Units of a card's scores."""

import pytest

from hf_clip_kd.hub.cards.scores import eval_results, own_scores, score_tables, scores_in
from hf_clip_kd.recipe_io.results import save_results

RECORD = {
    "task": "vqa_llava",
    "dataset": "gqa",
    "metrics": {"accuracy": 0.5, "answer_bits": 1.234, "query/answer_bits": 12.0},
    "main_metric": "accuracy",
    "n_samples": 2,
    "protocol": "llava",
    "confidence_intervals": {"accuracy": [0.25, 0.75], "answer_bits": [1.0, 2.0]},
    "likelihood": {"answers": "best", "length": "sum", "end_token": True, "n_samples": 2, "n_left_out": 0},
}


def test_bits_are_no_per_cent():
    (found,) = score_tables([own_scores(RECORD)], {"other": [{**RECORD, "metrics": {"answer_bits": 3.0}}]})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.rows.splitlines()[2:]]
    assert rows == [
        ["`accuracy`", "–", "50.0 (25.0 to 75.0)"],
        ["`answer_bits`", "3.00", "1.23 (1.00 to 2.00)"],
        ["`query/answer_bits`", "–", "12.00"],
    ]
    assert found.note.startswith("Per cent. `answer_bits` is in bits per answer of the likeliest accepted answer, ")


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        ({"answers": "first", "length": "per_token"}, "is in bits per token of the first accepted answer, and lower"),
        ({}, "is in bits, and lower is better."),
    ],
)
def test_note_says_which_likelihood(likelihood, words):
    (found,) = score_tables([RECORD | {"likelihood": likelihood}], {})
    assert words in found.note


def test_scores_without_bits_say_nothing_of_them():
    (points,) = score_tables([RECORD | {"metrics": {"perception": 1000.0}}], {})
    (shares,) = score_tables([RECORD | {"metrics": {"accuracy": 0.5}}], {})
    assert points.note.startswith("Points. 2 questions") and shares.note.startswith("Per cent. 2 questions")


def test_metadata_has_the_main_metric_alone():
    assert [result.metric_name for result in eval_results([RECORD], vlm=True)] == ["accuracy"]


def test_a_choice_of_captions_is_no_vqa():
    record = {
        "task": "image_caption_selection",
        "dataset": "winoground/test",
        "metrics": {"text_acc": 0.3, "acc": 0.1},
        "main_metric": "acc",
        "confidence_intervals": {"acc": [0.05, 0.15]},
    }
    (found,) = score_tables([own_scores(record)], {})
    assert found.title == "Choice of captions on `winoground/test`" and "10.0 (5.0 to 15.0)" in found.rows
    (result,) = eval_results([record], vlm=False)
    assert (result.metric_name, result.metric_type, result.dataset_split) == ("acc", "accuracy", "test")


def test_means_of_a_suite_are_scores(tmp_path):
    """They stand in the table and in the metadata, under the name of the suite's folder."""
    save_results(
        tmp_path,
        dataset="/data/wds/test",
        model="m",
        task="zeroshot_suite",
        metrics={"average_acc1": 0.5, "datacomp_average/vtab": 0.25},
        config={},
        details={"means": {}},
    )
    scores = [own_scores(record) for record in scores_in(tmp_path)]
    (table,) = score_tables(scores, {})
    assert table.title == "Means over a suite on `wds/test`" and "25.0" in table.rows
    (first, second) = eval_results(scores, vlm=False)
    assert (first.task_type, first.dataset_name, first.dataset_split) == (
        "zero-shot-image-classification",
        "wds",
        "test",
    )
    assert (first.metric_type, first.metric_value, second.metric_name) == ("accuracy", 0.5, "datacomp_average/vtab")
