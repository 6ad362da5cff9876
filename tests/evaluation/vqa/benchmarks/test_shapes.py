"""Questions about the embedded world: reader, scores, and the way from a recipe to a model's answers."""

import json

import pytest
from tiny_llava import make_llava

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator, load_results
from hf_clip_kd.evaluation.vqa import METRICS, READERS


def test_scores_by_hand():
    rows = [
        {"answers": ["red"], "category": "color_at"},
        {"answers": ["red", "pink"], "category": "color_at"},
        {"answers": ["two"], "category": "count"},
        {"answers": ["two"], "category": "count"},
    ]
    found = METRICS["shapes"]().compute(predictions=[" Red. ", "pink", "2", "two red"], references=rows, n_resamples=0)
    assert found["scores"] == [1, 1, 0, 0]
    assert (found["accuracy"], found["color_at/accuracy"], found["count/accuracy"]) == (0.5, 1, 0)


def test_reader():
    rows = load_shapes("test", size=7, vqa=True)
    found = READERS["shapes"](rows)
    assert [sample.prompt for sample in found] == rows["question"]
    assert [list(sample.answers) for sample in found] == rows["answers"]
    assert found[6].image.tobytes() == rows[6]["image"].tobytes() and found[6].category == "color_at"
    # Six questions share a picture.
    assert len({sample.picture for sample in found[:6]}) == 1 and found[6].picture != found[0].picture
    with pytest.raises(ValueError, match=r"Row 0 of `shapes` has the columns \['image', 'text'\].*vqa=True"):
        READERS["shapes"](load_shapes("test", size=2))


def test_end_to_end_with_a_model(tmp_path):
    block = {"split": "test", "max_samples": 18, "max_new_tokens": 4, "image_size": 16}
    evaluate = build_vqa_evaluator({"shapes": block}, load_shapes)
    assert evaluate.benchmarks[0].samples[0].image.size == (16, 16)
    numbers = evaluate(*make_llava("timm"), folder=tmp_path)
    (record,) = load_results(tmp_path)
    assert record["metrics"]["accuracy"] == numbers["shapes"] and record["n_samples"] == 18
    types = {"color_at", "shape_at", "texture_at", "size_at", "count", "color_of"}
    assert {name.split("/")[0] for name in record["metrics"]} == {"accuracy", "answer_bits", *types}
    assert record["bootstrap"]["unit"] == "image"
    (path,) = (tmp_path / "samples").iterdir()
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({sample["image"] for sample in samples}) == 3
    for kind in types:
        bits = [sample["bits"] for sample in samples if sample["category"] == kind]
        assert record["metrics"][f"{kind}/answer_bits"] == pytest.approx(sum(bits) / len(bits))
    blind = tmp_path / "blind"
    evaluate.without_images()(*make_llava("timm"), folder=blind)
    (blind_path,) = (blind / "samples").iterdir()
    blind_samples = [json.loads(line) for line in blind_path.read_text().splitlines()]
    assert [sample["image"] for sample in blind_samples] == [sample["image"] for sample in samples]
    assert blind_samples[0]["bits"] != samples[0]["bits"]


def test_is_as_long_as_asked():
    evaluate = build_vqa_evaluator({"shapes": {"max_samples": 2500}}, load_shapes)
    assert len(evaluate.benchmarks[0].samples) == 2500 and evaluate.benchmarks[0].max_new_tokens == 16


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"split": "zero_shot"}, "'shapes': load_shapes got vqa=True with split='zero_shot'"),
        ({"vqa": True}, "'vqa' is no argument of the benchmark 'shapes'.*split, seed, image_size"),
    ],
)
def test_bad_blocks(block, message):
    with pytest.raises(ValueError, match=message):
        build_vqa_evaluator({"shapes": block}, load_shapes)


def test_rows_need_a_function():
    with pytest.raises(ValueError, match="was not handed in.*load_shapes=hf_clip_kd.data.load_shapes"):
        build_vqa_evaluator({"shapes": {}})
