"""Compositional evaluator: broken pictures, shared pictures, and names beside those of other evaluators."""

import pytest
from caption_files import FAR, NEAR, model_of, write_pictures

from hf_clip_kd.evaluation.compositional import COMPOSITIONAL, Case, CompositionalEvaluator
from hf_clip_kd.evaluation.evaluator import SequentialEvaluator


def evaluator_of(folder, number, **options):
    names = [str(folder / f"{i}.png") for i in range(number)]
    cases = [Case((name,), ("near", "far") if i % 2 else ("far", "near"), "add_att") for i, name in enumerate(names)]
    return CompositionalEvaluator(cases, COMPOSITIONAL["sugarcrepe"], **options)


def test_a_case_goes_with_its_broken_picture(tmp_path, caplog):
    write_pictures(tmp_path, [f"{i}.png" for i in range(40)])
    (tmp_path / "0.png").write_bytes(b"no picture")
    evaluator = evaluator_of(tmp_path, 40)
    metrics = evaluator(*model_of({"near": NEAR, "far": FAR}, 40))
    assert metrics["text_acc"] == pytest.approx(20 / 39) and evaluator.counts["n_cases"] == 39
    assert evaluator.judged["text_acc"].tolist() == [i % 2 for i in range(1, 40)]
    assert [line["question_id"] for line in evaluator.samples] == list(range(1, 40))
    assert [line["score"] for line in evaluator.samples] == [i % 2 for i in range(1, 40)]
    assert evaluator.samples[0] == {
        "question_id": 1, "image": str(tmp_path / "1.png"), "prompt": "near\nfar", "references": ("near",),
        "category": "add_att", "score": 1.0,
    }  # fmt: skip
    assert "broken image" in caplog.text and "0.png" in caplog.text
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 of 40 images to evaluate on are broken.*At most 5%"):
        evaluator(*model_of({"near": NEAR, "far": FAR}, 40))


def test_two_benchmarks_keep_their_numbers_apart(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    parts = [evaluator_of(tmp_path, number, name=name) for number, name in ((1, "first"), (2, "second"))]
    metrics = SequentialEvaluator(parts)(*model_of({"near": NEAR, "far": FAR}, 2))
    assert (metrics["first/text_acc"], metrics["second/text_acc"]) == (0, 1 / 2)
    assert "first/text_acc/add_att" in metrics


def test_a_caption_that_no_file_can_hold_is_refused(tmp_path):
    write_pictures(tmp_path, ["0.png"])
    with pytest.raises(ValueError, match="Text 0 of 'compositional: captions'"):
        CompositionalEvaluator([Case((str(tmp_path / "0.png"),), ("", "far"))], COMPOSITIONAL["sugarcrepe"])
