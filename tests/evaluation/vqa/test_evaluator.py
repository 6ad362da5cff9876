"""From a recipe's block to scores and files: every benchmark's own way, resuming, and errors before any model is asked."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from tiny_llava import make_llava

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator, load_results
from hf_clip_kd.evaluation.vqa import METRICS, READERS, ShapesVQA, evaluator

S1 = "\nAnswer the question using a single word or phrase."


def test_shapes_metric_by_hand():
    rows = [
        {"answers": ["red"], "category": "color_at"},
        {"answers": ["red", "pink"], "category": "color_at"},
        {"answers": ["two"], "category": "count"},
        {"answers": ["two"], "category": "count"},
    ]
    found = ShapesVQA().compute(predictions=[" Red. ", "pink", "2", "two red"], references=rows, n_resamples=0)
    assert found["scores"] == [1, 1, 0, 0]
    assert (found["accuracy"], found["color_at/accuracy"], found["count/accuracy"]) == (0.5, 1, 0)


def test_shapes_reader():
    rows = load_shapes("test", size=7, vqa=True)
    found = READERS["shapes"](rows)
    assert [sample.prompt for sample in found] == rows["question"]
    assert [list(sample.answers) for sample in found] == rows["answers"]
    assert found[6].image.tobytes() == rows[6]["image"].tobytes() and found[6].category == "color_at"
    with pytest.raises(ValueError, match=r"Row 0 of `shapes` has the columns \['image', 'text'\].*vqa=True"):
        READERS["shapes"](load_shapes("test", size=2))


@pytest.fixture
def asked(monkeypatch):
    """Answers come from a dict, prompt to text (`yes` where there is none); the list holds what was asked."""
    calls = []

    def answers(model, processor, samples, **options):
        calls.append(([sample.prompt for sample in samples], options))
        return [model.get(sample.prompt, "yes") for sample in samples]

    monkeypatch.setattr(evaluator, "generate_answers", answers)
    return calls


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return str(folder)


@pytest.fixture
def gqa(put, images):
    rows = {
        "a": {"question": "Is it red?", "imageId": "1", "answer": "yes", "types": {"structural": "verify"}},
        "b": {"question": "What is it?", "imageId": "2", "answer": "cup", "types": {"structural": "query"}},
    }
    return {"questions": put("gqa.json", rows), "image_folder": images}


def test_files_of_a_scored_benchmark(gqa, asked, tmp_path):
    evaluate = build_vqa_evaluator({"gqa": gqa})
    out = tmp_path / "out"
    numbers = evaluate({"What is it?" + S1: "Mug"}, None, folder=out, name="runs/my model", config={"seed": 3})
    assert numbers == {"gqa": 0.5}
    assert evaluate.results["gqa"]["scores"] == [1, 0]
    (record,) = load_results(out)
    assert record["metrics"] == {"accuracy": 0.5, "query/accuracy": 0, "verify/accuracy": 1, "open": 0, "binary": 1}
    assert (record["dataset"], record["model"], record["task"]) == ("gqa", "runs/my model", "vqa_llava")
    assert (record["benchmark"], record["protocol"], record["main_metric"], record["n_samples"]) == (
        "gqa", "llava", "accuracy", 2,
    )  # fmt: skip
    assert record["confidence_intervals"]["accuracy"] == [0, 1] and record["bootstrap"]["n_resamples"] == 1000
    assert record["config"]["seed"] == 3 and record["config"]["evaluation"] == gqa
    (result,) = out.glob("*.json")
    assert result.name == "gqa_runs-my-model_vqa_llava.json"
    rows = [json.loads(line) for line in (out / "samples" / f"{result.stem}.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "question_id": "b", "image": str(Path(gqa["image_folder"]) / "2.jpg"), "prompt": "What is it?" + S1,
        "answer": "Mug", "references": ["cup"], "score": 0, "category": "query",
    }  # fmt: skip
    submission = json.loads((out / "submissions" / result.name).read_text())
    assert submission == [{"questionId": "a", "prediction": "yes"}, {"questionId": "b", "prediction": "mug"}]
    assert not list(out.rglob("*.tmp"))


def test_nothing_is_written_without_a_folder(gqa, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert build_vqa_evaluator({"gqa": gqa})({}, None) == {"gqa": 0.5}
    assert sorted(tmp_path.rglob("*")) == before


def test_two_settings_of_one_benchmark(put, images, asked, tmp_path):
    rows = {"data": [{"image_id": "1", "question": "what brand?", "answers": ["yes"] * 10}]}
    ocr = {"data": [{"image_id": "1", "ocr_tokens": ["a", "b"]}]}
    plain = {"annotations": put("t.json", rows), "image_folder": images}
    evaluation = {
        "textvqa": plain | {"ocr": put("o.json", ocr), "batch_size": 2},
        "without_ocr": plain | {"benchmark": "textvqa", "protocol": "lmms_eval", "max_new_tokens": 5},
    }
    assert build_vqa_evaluator(evaluation)({}, None, folder=tmp_path / "out") == {"textvqa": 1, "without_ocr": 1}
    (prompts, options), (other_prompts, other_options) = asked
    assert prompts == ["What brand?\nReference OCR token: a, b" + S1] and other_prompts == ["What brand?" + S1]
    assert (options["batch_size"], options["max_new_tokens"]) == (2, 128)
    assert (other_options["batch_size"], other_options["max_new_tokens"]) == (8, 5)
    records = {record["dataset"]: record["protocol"] for record in load_results(tmp_path / "out")}
    assert records == {"textvqa": "llava", "without_ocr": "lmms_eval"}


def test_hidden_answers_are_only_exported(put, images, asked, tmp_path):
    evaluation = {
        "mmvet": {"questions": put("m.json", {"v1_0": {"imagename": "1.jpg", "question": "Why?", "answer": "x"}})},
        "vizwiz": {"annotations": put("v.json", [{"image": "2.jpg", "question": "What?"}])},
        "llava": {"questions": put("q.jsonl", json.dumps({"question_id": 7, "image": "1.jpg", "text": "Q"}))},
    }
    evaluation = {name: block | {"image_folder": images} for name, block in evaluation.items()}
    assert build_vqa_evaluator(evaluation)({"Why?": "so"}, None, folder=tmp_path / "out", name="m") == {}
    assert asked[0][1]["max_new_tokens"] == 1024
    submissions = {path.name: path.read_text() for path in (tmp_path / "out/submissions").iterdir()}
    assert json.loads(submissions["mmvet_m_vqa_llava.json"]) == {"v1_0": "so"}
    assert json.loads(submissions["vizwiz_m_vqa_llava.json"]) == [{"image": "2.jpg", "answer": "yes"}]
    assert json.loads(submissions["llava_m_vqa_llava.jsonl"])["model_id"] == "m"
    for record in load_results(tmp_path / "out"):
        assert record["metrics"] == {} and record["main_metric"] is None
    rows = (tmp_path / "out/samples/mmvet_m_vqa_llava.jsonl").read_text()
    assert json.loads(rows)["score"] is None


def test_mmmu_with_several_images_is_not_asked(asked, tmp_path):
    png = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(png)
    common = {"question_type": "multiple-choice", "options": "['x', 'y']", "answer": "B"}
    common["image_1"] = {"bytes": png.read_bytes(), "path": "x.png"}
    rows = [
        {"id": "validation_Art_1", "question": "<image 1> or <image 2>?"} | common,
        {"id": "validation_Art_2", "question": "<image 1>?"} | common,
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "validation.parquet")
    block = {"questions": str(tmp_path / "validation.parquet"), "image_folder": str(tmp_path / "images")}
    evaluate = build_vqa_evaluator({"mmmu": block})
    evaluate({}, None, folder=tmp_path / "out")
    assert len(asked[0][0]) == 1 and asked[0][0][0].startswith("<image 1>?\n(A) x")
    (file,) = (tmp_path / "out/samples").iterdir()
    assert [json.loads(line)["answer"] for line in file.read_text().splitlines()] == ["", "yes"]


def test_answers_are_reused_for_the_same_weights_alone(gqa, asked, tmp_path, put):
    def run(weights, model=None, **options):
        build = build_vqa_evaluator({"gqa": gqa | options})
        return build(model or {}, None, folder=tmp_path / "out", weights=weights)["gqa"]

    right = {"What is it?" + S1: "cup"}
    assert run("w1", right) == 1 and len(asked) == 1
    assert run("w1") == 1 and len(asked) == 1, "the stored answers were not taken"
    assert run("w1", batch_size=1) == 1 and len(asked) == 1
    assert run("w1", max_new_tokens=3) == 0.5 and len(asked) == 2
    assert run("w2", right) == 1 and len(asked) == 3
    assert run(None) == 0.5 and len(asked) == 4
    assert run("w2", right) == 1 and len(asked) == 5, "answers without a name for their weights were taken"
    (samples,) = (tmp_path / "out/samples").iterdir()
    samples.unlink()
    assert run("w2", right) == 1 and len(asked) == 6
    samples.write_text(samples.read_text().replace("cup", "mug"))
    assert run("w2", right) == 1 and len(asked) == 7, "answers of another run were taken"
    put("gqa.json", json.loads(Path(gqa["questions"]).read_text().replace("Is it red", "Is it blue")))
    assert run("w2", right) == 1 and len(asked) == 8


def test_an_interrupted_run_goes_on(gqa, asked, tmp_path, monkeypatch):
    evaluate = build_vqa_evaluator({"gqa": gqa, "again": gqa | {"benchmark": "gqa"}})

    class Stops(dict):
        def get(self, *args):
            if len(asked) > 1:
                raise KeyboardInterrupt
            return super().get(*args)

    with pytest.raises(KeyboardInterrupt):
        evaluate(Stops(), None, folder=tmp_path / "out", weights="w")
    assert len(load_results(tmp_path / "out")) == 1
    assert evaluate({}, None, folder=tmp_path / "out", weights="w") == {"gqa": 0.5, "again": 0.5}
    assert len(asked) == 3


def test_shapes_end_to_end_with_a_model(tmp_path):
    block = {"split": "test", "max_samples": 18, "max_new_tokens": 4, "image_size": 16}
    evaluate = build_vqa_evaluator({"shapes": block}, load_shapes)
    assert evaluate.benchmarks[0].samples[0].image.size == (16, 16)
    numbers = evaluate(*make_llava("timm"), folder=tmp_path)
    (record,) = load_results(tmp_path)
    assert record["metrics"]["accuracy"] == numbers["shapes"] and record["n_samples"] == 18
    types = {"color_at", "shape_at", "texture_at", "size_at", "count", "color_of"}
    assert {name.split("/")[0] for name in record["metrics"]} == {"accuracy", *types}


def test_shapes_is_as_long_as_asked():
    evaluate = build_vqa_evaluator({"shapes": {"max_samples": 2500}}, load_shapes)
    assert len(evaluate.benchmarks[0].samples) == 2500 and evaluate.benchmarks[0].max_new_tokens == 16


def test_every_metric_has_a_reader():
    assert set(METRICS) <= set(READERS)


BAD = [
    ({}, r"`evaluation=\{\}` asks for nothing.*At least one of vqav2, gqa"),
    ({"gqa": "x.json"}, "`evaluation`, 'gqa': 'x.json' names no data.*mapping"),
    ({"gqua": {}}, "'gqua' is no benchmark.*There are vqav2.*benchmark: gqa"),
    ({"gqa": {"question": "x"}}, "'question' is no argument of the benchmark 'gqa'.*Did you mean `questions`"),
    ({"vizwiz": {"annotations": "x", "protocol": "mine"}}, "`protocol: 'mine'` does not exist.*llava, lmms_eval"),
    ({"gqa": {}}, "'gqa': `questions` has no value.*Add `questions: PATH`"),
    ({"gqa": {"questions": "no.json"}}, "'gqa': no.json: there is no such file"),
    ({"textvqa": {"annotations": "x", "ocr": True}}, "`ocr: True` is no path.*Write `ocr: PATH`"),
    ({"gqa": {"questions": "x", "batch_size": 0}}, "`batch_size: 0` is no number of things.*1 or more"),
    ({"gqa": {"questions": "x", "max_samples": "all"}}, "`max_samples: 'all'` is no number"),
    ({"gqa": {"questions": "x", "max_new_tokens": None}}, "`max_new_tokens: None` is no number"),
    ({"shapes": {"split": "zero_shot"}}, "'shapes': load_shapes got vqa=True with split='zero_shot'"),
    ({"shapes": {"vqa": True}}, "'vqa' is no argument of the benchmark 'shapes'.*split, seed, image_size"),
]


@pytest.mark.parametrize(("evaluation", "message"), BAD)
def test_bad_blocks(evaluation, message):
    with pytest.raises(ValueError, match=message):
        build_vqa_evaluator(evaluation, load_shapes)


def test_what_would_fail_later_fails_now(gqa, put, images, tmp_path):
    with pytest.raises(ValueError, match="was not handed in.*load_shapes=hf_clip_kd.data.load_shapes"):
        build_vqa_evaluator({"shapes": {}})
    Path(images, "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"'gqa': 1 of 2 images are missing, the first is .*2\.jpg.*image_folder"):
        build_vqa_evaluator({"gqa": gqa})
    assert build_vqa_evaluator({"gqa": gqa | {"max_samples": 1}}).benchmarks[0].samples[0].question_id == "a"
    folder = Path(put("mme/color/1.txt", "Is it?\tYes\nIs it not?\tNo")).parents[1]
    Image.new("RGB", (4, 4)).save(folder / "color/1.png")
    build_vqa_evaluator({"mme": {"folder": str(folder)}})
    with pytest.raises(ValueError, match="'mme': 1 images of MME do not have two questions"):
        build_vqa_evaluator({"mme": {"folder": str(folder), "max_samples": 1}})


def test_a_part_of_mme_has_no_sum(put, asked, tmp_path):
    folder = Path(put("mme/color/1.txt", "Is it?\tYes\nIs it not?\tNo")).parents[1]
    Image.new("RGB", (4, 4)).save(folder / "color/1.png")
    evaluate = build_vqa_evaluator({"mme": {"folder": str(folder)}})
    assert evaluate({"Is it not?" + S1: "no"}, None, folder=tmp_path / "out") == {}
    assert evaluate.results["mme"]["color/score"] == 200
    assert (tmp_path / "out/submissions/mme_model_vqa_llava/color.txt").read_text().count("\n") == 2
