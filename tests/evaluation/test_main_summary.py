"""Numbers that papers quote, judged again from stored answers: they are those of the metric itself."""

from dataclasses import dataclass

import numpy as np
import pytest

from hf_clip_kd.evaluation.main_summary import main_summary
from hf_clip_kd.evaluation.vqa import METRICS, Sample


@dataclass
class Stored:
    answer: str
    references: tuple
    choices: tuple
    category: str
    image: str | None
    score: float


PAIRS = [Sample(i, f"{i // 2}.jpg", "?", ("AB"[i % 2],), ("open", "shut")) for i in range(8)]
YES_NO = [Sample(i, f"{i // 2}.jpg", "?", (("yes", "no")[i % 2],), category=("a", "b")[i > 5]) for i in range(12)]
GROUPS = [Sample(i, "1.jpg", "?", (("yes", "no", "no", "yes")[i % 4],)) for i in range(8)]
TASKS = [Sample(i, f"{i}.jpg", "?", ("A",), ("x", "y"), ("Counting", "Jigsaw")[i > 2]) for i in range(9)]
KINDS = ("ADE20K/Count", "COCO/Count", "Omni3D/Depth")
PLACES = [Sample(i, f"{i}.jpg", "?", ("A",), ("x", "y"), KINDS[i % 3]) for i in range(10)]
CASES = {
    "mmvp": (PAIRS, ["A"] * 6 + ["A", "B"]),
    "pope": (YES_NO, ["yes"] * 5 + ["no"] * 7),
    "naturalbench": (GROUPS, ["yes", "no", "no", "yes", "yes", "no", "yes", "yes"]),
    "blink": (TASKS, list("AABABABAB")),
    "cvbench": (PLACES, list("ABABABABAA")),
}


def stored(name, samples, answers):
    result = METRICS[name]().score(samples, answers, n_resamples=0)
    record = {"task": "vqa_llava", "benchmark": name, "protocol": "llava", "main_metric": METRICS[name].main_metric}
    lines = [
        Stored(f" {answer}", s.answers, s.choices, s.category, s.picture, score)
        for s, answer, score in zip(samples, answers, result["scores"], strict=True)
    ]
    return record, lines, result


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_main_metric_of_the_benchmark(name):
    record, lines, result = stored(name, *CASES[name])
    found = main_summary(record, lines)
    assert found.name == METRICS[name].main_metric
    assert found.of(np.ones(len(lines))) == pytest.approx(100 * result[found.name])
    assert found.of(np.ones(len(lines))) != pytest.approx(100 * np.mean(result["scores"]))


def test_points_stay_points():
    from hf_clip_kd.evaluation.vqa.benchmarks.mme import PERCEPTION

    asked = [(subtask, answer) for subtask in PERCEPTION for answer in ("yes", "no")]
    samples = [Sample(f"{subtask}/1.jpg", "1.jpg", answer, (answer,), category=subtask) for subtask, answer in asked]
    record, lines, _ = stored("mme", samples, ["yes"] * len(samples))
    assert main_summary(record, lines).of(np.ones(len(lines))) == pytest.approx(50 * len(PERCEPTION))


def test_answers_that_cannot_be_judged_again_have_none():
    record, lines, _ = stored("mmvp", *CASES["mmvp"])
    assert main_summary(record, lines[:3]) is None
    assert main_summary(record | {"main_metric": None}, lines) is main_summary({}, lines) is None
    for line in lines:
        line.score = 1 - line.score
    assert main_summary(record, lines) is None


def test_the_mean_over_categories_of_captions():
    scored = [("add_att", 1), ("add_att", 1), ("add_att", 1), ("add_att", 0), ("swap_obj", 0), ("swap_obj", 1)]
    lines = [Stored("", (), (), category, None, score) for category, score in scored]
    record = {"task": "image_caption_selection", "benchmark": "sugarcrepe", "main_metric": "macro_acc"}
    assert main_summary(record, lines).of(np.ones(6)) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert main_summary(record | {"benchmark": "winoground", "main_metric": "acc"}, lines) is None
