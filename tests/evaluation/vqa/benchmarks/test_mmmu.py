"""MMMU: its two kinds of files, its scores and its submission."""

import json
import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from vqa_benchmarks import S1, S2, compute, parquet, picture

from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import METRICS, READERS, WRITERS, Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError

COMMON = {"question_type": "multiple-choice", "options": "['x', 'y']", "answer": "B"}


def test_reader_of_parquet(tmp_path):
    rows = [
        COMMON | {"id": "validation_Art_Theory_1", "question": "See <image 1>?"},
        {"id": "validation_Math_2", "question": "How many?", "options": "[]", "answer": "['7', 'seven']"},
        COMMON | {"id": "validation_Math_3", "question": "<image 1>", "options": "['<image 1>', '<image 2>']"},
    ]
    rows[1]["question_type"] = "open"
    images = {"image_1": picture("red", (4, 4)), "image_2": picture("blue", (2, 6))}
    path = parquet(tmp_path / "validation-0.parquet", *(row | images for row in rows))
    first, second, third = READERS["mmmu"](path, tmp_path / "images")
    stored = tmp_path / "images" / "validation_Art_Theory_1.png"
    prompt = "See <image 1>?\n(A) x\n(B) y\n" + S2
    assert first == Sample("validation_Art_Theory_1", str(stored), prompt, ("B",), ("x", "y"), "Art_Theory")
    assert stored.read_bytes() == images["image_1"]["bytes"]
    assert (second.prompt, second.answers, second.choices) == ("How many?" + S1, ("7", "seven"), ())
    # The official script shows LLaVA the first of several images.
    assert Path(third.image).read_bytes() == images["image_1"]["bytes"]


def test_lmms_eval_shows_all_images_that_a_question_names(tmp_path):
    rows = [
        COMMON | {"id": "validation_Art_1", "question": "<image 1>?"},
        COMMON | {"id": "validation_Art_2", "question": "<image 2>?"},
        COMMON | {"id": "validation_Art_3", "question": "<image 1>", "options": "['<image 1>', '<image 2>']"},
        COMMON | {"id": "validation_Art_4", "question": "How?", "question_type": "open"},
    ]
    images = {"image_1": picture("red", (4, 4)), "image_2": picture("blue", (2, 6))}
    path = parquet(tmp_path / "validation-0.parquet", *(row | images for row in rows))
    for _ in range(2):  # Images of the other protocol lie in the folder the second time.
        found = READERS["mmmu"](path, tmp_path / "images", protocol="lmms_eval")
        sizes = [Image.open(sample.image).size for sample in found]
        assert sizes == [(4, 4), (2, 6), (4 + 10 + 2, 6), (4, 4)]
        assert len(READERS["mmmu"](path, tmp_path / "images")) == 4
    assert "\nA. x\nB. y\n" in found[0].prompt and found[3].prompt == "How?\n" + S1


def test_reader_of_json(put):
    rows = [
        {"id": "validation_Art_1", "prompt": "P", "question_type": "multiple-choice", "image": "i.png"}
        | {"all_choices": ["A", "B"], "index2ans": {"A": "x", "B": "y"}},
        {"id": "validation_Art_2", "prompt": "Q", "question_type": "open"},
    ]
    truth = {"validation_Art_1": {"ground_truth": "A"}, "validation_Art_2": {"ground_truth": ["1", "2"]}}
    first, second = READERS["mmmu"](put("anns.json", rows), None, put("truth.json", truth))
    assert first == Sample("validation_Art_1", "i.png", "P", ("A",), ("x", "y"), "Art")
    assert (second.image, second.answers) == (None, ("1", "2"))


def test_a_question_without_an_image_is_asked_of_no_model_not_even_a_blind_one(asked, tmp_path, put):
    """TinyLLaVA's JSON has no image where there are several."""
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    common = {"question_type": "multiple-choice", "all_choices": ["A", "B"], "index2ans": {"A": "x", "B": "y"}}
    rows = [
        {"id": "validation_Art_1", "prompt": "<image 1> or <image 2>?"} | common,
        {"id": "validation_Art_2", "prompt": "<image 1>?", "image": "x.png"} | common,
    ]
    truth = {row["id"]: {"ground_truth": "B"} for row in rows}
    files = {"questions": str(put("anns.json", rows)), "answers": str(put("truth.json", truth))}
    evaluate = build_vqa_evaluator({"mmmu": files | {"image_folder": str(tmp_path)}})
    for sees, evaluator in {"seeing": evaluate, "blind": evaluate.without_images()}.items():
        evaluator({}, None, folder=tmp_path / sees)
        assert asked.pop()[0] == ["<image 1>?"]
        (file,) = (tmp_path / sees / "samples").iterdir()
        assert [json.loads(line)["answer"] for line in file.read_text().splitlines()] == ["", "yes"]


def test_draws_are_seeded_and_independent():
    rows = [{"answers": ["A"], "choices": list("wxyz"), "category": "Art"}] * 400
    found = compute("mmmu", ["?"] * 400, *rows, seed=3)
    assert found["scores"] == compute("mmmu", ["?"] * 400, *rows, seed=3)["scores"]
    assert found["scores"] != compute("mmmu", ["?"] * 400, *rows, seed=4)["scores"]
    assert found["scores"][1:] == compute("mmmu", ["A"] + ["?"] * 399, *rows, seed=3)["scores"][1:]
    assert found["Art/accuracy"] == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))


def test_a_question_without_choices_is_open():
    found = compute("mmmu", ["it is 7"], {"answers": ["7"], "choices": []})
    assert found["accuracy"] == 1


def test_submission_holds_the_letters_that_are_scored(tmp_path):
    samples = [Sample(f"validation_Art_{i}", None, "Q", ("A",), ("x", "y", "z"), "Art") for i in range(20)]
    samples.append(Sample("validation_Art_20", None, "Q", ("7",)))
    answers = ["?"] * 20 + ["it is 7"]
    WRITERS["mmmu"](tmp_path / "m.json", samples, answers, seed=5)
    written = json.loads((tmp_path / "m.json").read_text())
    scores = METRICS["mmmu"]().score(samples, answers, seed=5, n_resamples=0)["scores"]
    assert [float(written[sample.question_id] == "A") for sample in samples[:-1]] == scores[:-1]
    assert written["validation_Art_20"] == "it is 7"


def test_wrong_files(put):
    with pytest.raises(ValueError, match="no such file.*read_mmmu"):
        READERS["mmmu"]("no.parquet", "i")
    with pytest.raises(ValueError, match="cannot be read"):
        READERS["mmmu"](put("x.parquet", "no"), "i")


GOOD = {"id": "validation_Art_1", "question": "?", "options": "['x', 'y']", "answer": "B"}
GOOD |= {"question_type": "multiple-choice", "image_1": {"bytes": b"png", "path": None}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "['x'"}, r"`options` of row 0 is a text"),
        ({"options": "['x', None]"}, r"`options` of row 0 has an item 1 that is null"),
        ({"answer": "C"}, r"row 0: the answer \('C',\) is no letter of \['A', 'B'\]"),
        ({"answer": None}, r"`answer` of row 0 is null"),
        ({"id": "../x"}, r"row 0: `id` is '../x', which cannot name"),
        ({"image_1": {"bytes": None, "path": "x.png"}}, r"`bytes` of row 0, `image_1` is null"),
        ({"question": ...}, r"row 0 has no \['question'\]"),
    ],
)
def test_a_wrong_parquet_names_its_row(change, message, tmp_path):
    row = {key: value for key, value in (GOOD | change).items() if value is not ...}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "validation.parquet")
    with pytest.raises(ForeignFileError, match=f"validation.parquet.*{message}"):
        READERS["mmmu"](tmp_path / "validation.parquet", tmp_path / "images")


def test_what_is_no_parquet_is_named(tmp_path):
    (tmp_path / "validation.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ForeignFileError, match="validation.parquet: it cannot be read"):
        READERS["mmmu"](tmp_path, tmp_path / "images")
