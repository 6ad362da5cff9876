"""VQA metrics as `evaluate` loads them, and the bootstrap against closed forms."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_clip_kd.evaluation.vqa import METRICS, metric_path
from hf_clip_kd.evaluation.vqa.bootstrap import bootstrap_intervals, weighted_mean
from hf_clip_kd.evaluation.vqa.library import import_evaluate

REFERENCE = {"answers": ["yes"], "choices": ["yes", "no"], "category": "color", "image": "1.jpg"}


@pytest.mark.parametrize("name", METRICS)
def test_loads_from_its_file_without_hub_and_leaves_nothing_beside_it(name, tmp_path):
    folder = Path(metric_path(name)).parent
    before = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    loaded = import_evaluate().load(metric_path(name), cache_dir=str(tmp_path / "cache"))
    rows = [{field: row[field] for field in METRICS[name].reference_fields} for row in (REFERENCE, REFERENCE)]
    assert loaded.compute(predictions=["yes", "no"], references=rows) == METRICS[name]().compute(
        predictions=["yes", "no"], references=rows
    )
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before
    assert not (tmp_path / "cache").exists()


def test_library_is_found_behind_a_script_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text("raise RuntimeError('the script')")
    for module in [name for name in sys.modules if name.split(".")[0] == "evaluate"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    assert hasattr(import_evaluate(), "EvaluationModule")
    assert sys.path[0] == str(tmp_path)
    monkeypatch.setitem(sys.modules, "evaluate", object())
    with pytest.raises(ImportError, match="not the library"):
        import_evaluate()


def test_bootstrap_of_a_mean_is_the_normal_interval():
    n, p = 2000, 0.3
    scores = np.array([1.0] * int(n * p) + [0.0] * int(n * (1 - p)))
    low, high = bootstrap_intervals(lambda w: {"mean": weighted_mean(scores, w)}, np.arange(n), n_resamples=2000)[
        "mean"
    ]
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    assert (low, high) == pytest.approx((p - half, p + half), abs=0.1 * half)


def test_bootstrap_over_images_is_wider_when_both_questions_agree():
    n = 1000
    scores = np.repeat(np.array([1.0, 0.0] * (n // 2)), 2)

    def summary(weights):
        return {"mean": weighted_mean(scores, weights)}

    low, high = bootstrap_intervals(summary, np.repeat(np.arange(n), 2), n_resamples=2000)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / n), rel=0.1)


def test_bootstrap_draws_what_it_says():
    # Two samples: means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    seen = []
    bootstrap_intervals(lambda w: seen.append(float(w[1] / w.sum())) or {"mean": seen[-1]}, np.arange(2), seed=1)
    shares = [seen.count(value) / len(seen) for value in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.06)
    again = []
    bootstrap_intervals(lambda w: again.append(float(w[1] / w.sum())) or {"mean": 0.0}, np.arange(2), seed=1)
    assert again == seen
