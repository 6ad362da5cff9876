"""Scores and files of an evaluation, answers that are reused, and runs that are interrupted."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from vqa_benchmarks import S1

from hf_clip_kd.evaluation import VQAEvaluator, build_vqa_evaluator, load_results
from hf_clip_kd.evaluation.vqa import Likelihood


def test_files_of_a_scored_benchmark(gqa, asked, tmp_path):
    evaluate = build_vqa_evaluator({"gqa": gqa})
    out = tmp_path / "out"
    numbers = evaluate({"What is it?" + S1: "Mug"}, None, folder=out, name="runs/my model", config={"seed": 3})
    assert numbers == {"gqa": 0.5}
    assert evaluate.results["gqa"]["scores"] == [1, 0]
    (record,) = load_results(out)
    bits = {"answer_bits": 3, "query/answer_bits": 3, "verify/answer_bits": 3}
    shares = {"accuracy": 0.5, "query/accuracy": 0, "verify/accuracy": 1, "open": 0, "binary": 1}
    assert record["metrics"] == shares | bits
    assert record["likelihood"] == {
        "answers": "best", "length": "sum", "end_token": True, "n_samples": 2, "n_left_out": 0,
    }  # fmt: skip
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
        "answer": "Mug", "references": ["cup"], "choices": [], "score": 0, "bits": 3, "category": "query",
        "unit": None,
    }  # fmt: skip
    submission = json.loads((out / "submissions" / result.name).read_text())
    assert submission == [{"questionId": "a", "prediction": "yes"}, {"questionId": "b", "prediction": "mug"}]
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("folder", [None, "out"])
def test_empty_answers_leave_no_result(gqa, asked, tmp_path, folder):
    evaluate = build_vqa_evaluator({"gqa": gqa})
    silent = {sample.prompt: " " for sample in evaluate.benchmarks[0].samples}
    with pytest.raises(ValueError, match="All 2 answers to gqa by 'm' are empty"):
        evaluate(silent, None, folder=folder and tmp_path / folder, name="m")
    assert not (tmp_path / "out").exists()
    assert evaluate(silent, None, learning=True) == {"gqa": 0}


def test_a_model_that_still_learns_may_have_only_empty_answers(gqa, asked):
    evaluate = build_vqa_evaluator({"gqa": gqa})
    silent = {sample.prompt: " " for sample in evaluate.benchmarks[0].samples}
    assert evaluate(silent, None, learning=True) == {"gqa": 0.0}


def test_a_blind_model_is_asked_all_questions(gqa, asked):
    (entry,) = build_vqa_evaluator({"gqa": gqa}).benchmarks
    entry = replace(entry, benchmark=replace(entry.benchmark, needs_image=True))
    VQAEvaluator([entry]).without_images()({}, None)
    assert len(asked[0][0]) == len(entry.samples)
    with pytest.raises(ValueError, match="would score 0 answers"):
        blind = [replace(sample, image=None) for sample in entry.samples]
        VQAEvaluator([replace(entry, samples=blind)])({}, None)


def test_nothing_is_written_without_a_folder(gqa, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert build_vqa_evaluator({"gqa": gqa})({}, None) == {"gqa": 0.5}
    assert sorted(tmp_path.rglob("*")) == before


def test_two_settings_of_one_benchmark(put, images, asked, tmp_path):
    rows = {"data": [{"image_id": "1", "question": "what brand?", "answers": ["yes"] * 10}]}
    ocr = {"data": [{"image_id": "1", "ocr_tokens": ["a", "b"]}]}
    plain = {"annotations": str(put("t.json", rows)), "image_folder": images}
    evaluation = {
        "textvqa": plain | {"ocr": str(put("o.json", ocr)), "batch_size": 2},
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
    evaluation = {
        name: {option: str(path) for option, path in block.items()} | {"image_folder": images}
        for name, block in evaluation.items()
    }
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


@pytest.mark.parametrize("benchmark", ["mme", "vizwiz"])
def test_a_blind_model_is_exported_as_a_seeing_one(benchmark, put, images, asked, tmp_path):
    """Their submissions name the picture, which a blind model is not shown."""
    if benchmark == "mme":
        put("mme/OCR/1.txt", "Is it red?\tYes\nIs it blue?\tNo\n")
        shutil.copy(Path(images, "1.jpg"), tmp_path / "mme/OCR/1.jpg")
        block = {"folder": str(tmp_path / "mme")}
    else:
        block = {"annotations": str(put("v.json", [{"image": "2.jpg", "question": "What?"}])), "image_folder": images}
    seeing = build_vqa_evaluator({benchmark: block})
    found = []
    for name, evaluate in {"seeing": seeing, "blind": seeing.without_images()}.items():
        evaluate({}, None, folder=tmp_path / name)
        files = sorted(path for path in (tmp_path / name / "submissions").rglob("*") if path.is_file())
        found.append([path.read_text() for path in files])
    assert found[0] == found[1] != []


def test_a_picture_that_changed_is_asked_about_again(gqa, images, asked, tmp_path):
    for number in (1, 1, 2):
        if number == 2:
            Image.new("RGB", (40, 40)).save(Path(images, "1.jpg"))
        build_vqa_evaluator({"gqa": gqa})({}, None, folder=tmp_path / "out", weights="w")
        assert len(asked) == number


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


def test_bits_are_reused_too_and_missing_ones_alone_are_measured(gqa, asked, measured, tmp_path):
    def run(**options):
        evaluate = build_vqa_evaluator({"gqa": gqa | options})
        evaluate({}, None, folder=tmp_path / "out", weights="w")
        return evaluate.results["gqa"].get("bits")

    assert run(likelihood=False) is None and (len(asked), len(measured)) == (1, 0)
    # Old versions left nothing about bits.
    (samples,) = (tmp_path / "out/samples").iterdir()
    (result,) = (tmp_path / "out").glob("*.json")
    text = samples.read_text().replace(', "bits": null', "")
    record = json.loads(result.read_text()) | {"samples_checksum": hashlib.sha256(text.encode()).hexdigest()}
    assert "likelihood" not in record and text != samples.read_text()
    samples.write_text(text)
    result.write_text(json.dumps(record))
    assert run() == [3, 3] and (len(asked), len(measured)) == (1, 1)
    assert run() == [3, 3] and (len(asked), len(measured)) == (1, 1), "the stored bits were not taken"
    assert run(likelihood={"length": "per_token"}) == [3, 3] and (len(asked), len(measured)) == (1, 2)
    assert measured[1][1]["likelihood"] == Likelihood(length="per_token") and measured[1][1]["any_case"]


def test_bits_of_a_corrected_answer_are_measured_again(gqa, asked, measured, tmp_path, put):
    def run():
        evaluate = build_vqa_evaluator({"gqa": gqa})
        evaluate({}, None, folder=tmp_path / "out", weights="w")
        return evaluate.results["gqa"]["bits"]

    assert run() == [3, 3] and (len(asked), len(measured)) == (1, 1)
    put("gqa.json", json.loads(Path(gqa["questions"]).read_text().replace("cup", "saucer")))
    assert run() == [3, 6] and (len(asked), len(measured)) == (1, 2)
    assert run() == [3, 6] and (len(asked), len(measured)) == (1, 2), "the new bits were not stored"


def test_bits_of_questions_that_are_not_asked_are_left_out(gqa, asked, measured, tmp_path):
    (entry,) = build_vqa_evaluator({"gqa": gqa}).benchmarks
    first, second = entry.samples
    entry = replace(
        entry, samples=[replace(first, image=None), second], benchmark=replace(entry.benchmark, needs_image=True)
    )
    evaluate = VQAEvaluator([entry])
    evaluate({}, None, folder=tmp_path / "out")
    result = evaluate.results["gqa"]
    assert [sample.question_id for sample in measured[0][0]] == ["b"] and result["bits"] == [None, 3]
    assert result["likelihood"]["n_samples"] == result["likelihood"]["n_left_out"] == 1
    assert result["answer_bits"] == result["query/answer_bits"] == 3 and "verify/answer_bits" not in result
    (record,) = load_results(tmp_path / "out")
    assert record["confidence_intervals"]["answer_bits"] == [3, 3]


def test_questions_about_one_image_are_drawn_together(put, images, asked):
    rows = {
        str(i): {"question": "Is it?", "imageId": image, "answer": answer, "types": {"structural": "verify"}}
        for i, (image, answer) in enumerate([("1", "yes"), ("1", "yes"), ("2", "no"), ("2", "no")])
    }
    evaluate = build_vqa_evaluator({"gqa": {"questions": str(put("q.json", rows)), "image_folder": images}})
    evaluate({}, None)
    # Two images: both right, both wrong, or a half.
    result = evaluate.results["gqa"]
    assert result["bootstrap"]["unit"] == "image" and result["confidence_intervals"]["accuracy"] == [0, 1]


def test_lines_name_the_pair_that_is_drawn_as_one(put, images, asked, tmp_path):
    heading = "lndex,Question,Options,Correct Answer\n"
    rows = "".join(f"{i},Is it open?,(a) Open (b) Closed,({'ab'[i % 2]})\n" for i in (1, 2))
    rows += "".join(f"{i},Is it red?,(a) Red (b) Blue,({'ab'[i % 2]})\n" for i in (3, 4))
    for name in ("3.jpg", "4.jpg"):
        shutil.copy(Path(images, "1.jpg"), Path(images, name))
    block = {"questions": str(put("Questions.csv", heading + rows)), "image_folder": images}
    evaluate = build_vqa_evaluator({"mmvp": block})
    evaluate({}, None, folder=tmp_path / "out")
    (path,) = (tmp_path / "out/samples").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["unit"] for line in lines] == ["pair 0", "pair 0", "pair 1", "pair 1"]
    assert lines[0]["choices"] == ["Open", "Closed"]


def test_an_interrupted_run_goes_on(gqa, asked, tmp_path):
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
