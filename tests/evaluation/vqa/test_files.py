"""Readers on small files in the benchmarks' own formats, and writers there and back."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from hf_clip_kd.evaluation.vqa import METRICS, READERS, WRITERS, Sample, read_answers

S1 = "\nAnswer the question using a single word or phrase."
S2 = "\nAnswer with the option's letter from the given choices directly."


@pytest.fixture
def put(tmp_path):
    """Writes text, rows (jsonl) or JSON to a file, and gives its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def vqav2(put):
    row = {"question_id": 42000, "image_id": 42, "question": "What color?"}
    answers = [{"answer": "red", "answer_id": i, "answer_confidence": "yes"} for i in range(10)]
    return {
        "questions": put("q.json", {"data_subtype": "val2014", "questions": [row]}),
        "annotations": put(
            "a.json", {"annotations": [{"question_id": 42000, "answer_type": "other", "answers": answers}]}
        ),
    }


def textvqa(put):
    rows = [{"image_id": "ab", "question": "what does IT say?", "question_id": 7, "answers": ["stop"] * 10}]
    return {"annotations": put("t.json", {"data": rows})}


def scienceqa(put):
    row = {"question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "", "image": None, "subject": "s"}
    return {
        "problems": put("p.json", {"3": row, "4": row | {"hint": "Look.", "image": "image.png"}, "5": {}}),
        "splits": put("s.json", {"test": ["3", "4"]}),
    }


SEED = {
    "question_id": "1_0",
    "question": "How?",
    "answer": "C",
    "data_type": "image",
    "data_id": "9",
    "question_type_id": 1,
}
SEED |= {f"choice_{letter}": letter * 2 for letter in "abcd"}


def test_vqav2(put):
    files = vqav2(put)
    (found,) = READERS["vqav2"](**files)
    image = "COCO_val2014_000000000042.jpg"
    assert found == Sample(42000, image, "What color?" + S1, ("red",) * 10, category="other")
    questions = put(
        "test.json",
        {"data_subtype": "test-dev2015", "questions": json.loads(files["questions"].read_text())["questions"]},
    )
    (found,) = READERS["vqav2"](questions)
    assert (found.image, found.answers) == ("COCO_test2015_000000000042.jpg", ())


def test_gqa(put):
    row = {"question": "Is it?", "imageId": "n1", "answer": "yes", "types": {"structural": "verify"}}
    (found,) = READERS["gqa"](put("g.json", {"2013": row}))
    assert found == Sample("2013", "n1.jpg", "Is it?" + S1, ("yes",), category="verify")


def test_textvqa_with_and_without_ocr(put):
    files = textvqa(put)
    (found,) = READERS["textvqa"](**files)
    assert found == Sample("ab", "ab.jpg", "What does it say?" + S1, ("stop",) * 10)
    ocr = put("ocr.json", {"data": [{"image_id": "ab", "ocr_tokens": ["STOP", "4"], "ocr_info": []}]})
    (found,) = READERS["textvqa"](**files, ocr=ocr)
    assert found.prompt == "What does it say?\nReference OCR token: STOP, 4" + S1


def test_vizwiz(put):
    rows = [
        {"image": "V_1.jpg", "question": "what IS this", "answers": [{"answer": "can"}] * 10, "answer_type": "other"},
        {"image": "V_2.jpg", "question": "and this?"},
    ]
    path = put("v.json", rows)
    first, second = READERS["vizwiz"](path)
    assert first.prompt == (
        "what IS this\nWhen the provided information is insufficient, respond with 'Unanswerable'." + S1
    )
    assert (first.answers, first.category, second.answers) == (("can",) * 10, "other", ())
    assert READERS["vizwiz"](path, protocol="lmms_eval")[0].prompt.startswith("What is this\n")


def test_pope(put, tmp_path):
    row = {"question_id": 1, "image": "c.jpg", "text": "Is there a dog in the image?", "label": "no"}
    put("coco/coco_pope_popular.json", lines(row))
    put("coco/coco_pope_random.json", lines(row | {"label": "yes"}))
    popular, rand = READERS["pope"](tmp_path / "coco")
    assert popular == Sample("popular/1", "c.jpg", row["text"] + S1, ("no",), category="popular")
    assert (rand.question_id, rand.answers) == ("random/1", ("yes",))
    assert METRICS["pope"]().score([popular, rand], ["No", "Yes"])["accuracy"] == 1


@pytest.fixture
def mme(put, tmp_path):
    text = "Is it red? Please answer yes or no.\tYes\nIs it blue?  Please answer yes or no.\tNo\n\n"
    put("mme/color/1.txt", text)
    put("mme/color/1.jpg", "")
    put("mme/artwork/questions_answers_YN/2.txt", text)
    put("mme/artwork/images/2.png", "")
    put("mme/eval_tool/readme.txt", "not a subtask")
    return tmp_path / "mme"


def test_mme(mme):
    found = READERS["mme"](mme)
    assert [sample.question_id for sample in found] == ["color/1.jpg"] * 2 + ["artwork/2.png"] * 2
    assert found[0] == Sample("color/1.jpg", str(mme / "color/1.jpg"), "Is it red?" + S1, ("Yes",), category="color")
    assert found[3].prompt == "Is it blue?" + S1
    assert METRICS["mme"]().score(found, ["yes", "no", "yes", "yes"])["color/score"] == 200


def test_scienceqa(put):
    text, picture = READERS["scienceqa"](**scienceqa(put))
    assert text == Sample("3", None, "Which?\nA. x\nB. y" + S2, ("B",), ("x", "y"), "s")
    assert (picture.image, picture.prompt) == ("4/image.png", "Context: Look.\nWhich?\nA. x\nB. y" + S2)


def test_seedbench_keeps_the_images(put):
    rows = [SEED, SEED | {"data_type": "video"}]
    (found,) = READERS["seedbench"](put("s.json", {"questions": rows, "question_type": {"Scene Understanding": 1}}))
    prompt = "How?\nA. aa\nB. bb\nC. cc\nD. dd" + S2
    assert found == Sample("1_0", "9", prompt, ("C",), ("aa", "bb", "cc", "dd"), "Scene Understanding")


def test_mmmu_parquet(tmp_path):
    image = {"bytes": b"png", "path": "x.png"}
    rows = [
        {"id": "validation_Art_Theory_1", "question": "See <image 1>?", "options": "['x', 'y']", "answer": "B"},
        {"id": "validation_Math_2", "question": "How many?", "options": "[]", "answer": "['7', 'seven']"},
        {"id": "validation_Math_3", "question": "<image 1>", "options": "['<image 1>', '<image 2>']", "answer": "A"},
    ]
    kinds = ["multiple-choice", "open", "multiple-choice"]
    rows = [row | {"question_type": kind, "image_1": image} for row, kind in zip(rows, kinds, strict=True)]
    path = tmp_path / "validation-0.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    first, second, third = READERS["mmmu"](path, tmp_path / "images")
    stored = tmp_path / "images" / "validation_Art_Theory_1.png"
    prompt = "See <image 1>?\n(A) x\n(B) y\n" + S2
    assert first == Sample("validation_Art_Theory_1", str(stored), prompt, ("B",), ("x", "y"), "Art_Theory")
    assert stored.read_bytes() == b"png"
    assert (second.prompt, second.answers, second.choices) == ("How many?\n" + S1, ("7", "seven"), ())
    assert third.image is None
    assert "\nA. x\nB. y\n" in READERS["mmmu"](tmp_path, tmp_path / "images", protocol="lmms_eval")[0].prompt


def test_mmmu_json(put):
    rows = [
        {"id": "validation_Art_1", "prompt": "P", "question_type": "multiple-choice", "image": "i.png"}
        | {"all_choices": ["A", "B"], "index2ans": {"A": "x", "B": "y"}},
        {"id": "validation_Art_2", "prompt": "Q", "question_type": "open"},
    ]
    truth = {"validation_Art_1": {"ground_truth": "A"}, "validation_Art_2": {"ground_truth": ["1", "2"]}}
    first, second = READERS["mmmu"](put("anns.json", rows), None, put("truth.json", truth))
    assert first == Sample("validation_Art_1", "i.png", "P", ("A",), ("x", "y"), "Art")
    assert (second.image, second.answers) == (None, ("1", "2"))


def test_mmvet(put):
    row = {"imagename": "v1_0.png", "question": "Why?", "answer": "x", "capability": ["ocr", "math"]}
    (found,) = READERS["mmvet"](put("m.json", {"v1_0": row}))
    assert found == Sample("v1_0", "v1_0.png", "Why?", ("x",), category="ocr,math")


def test_llava_questions(put):
    rows = [
        {"question_id": 1, "image": "a.jpg", "text": "Q?" + S1, "category": "random"},
        {"question_id": 2, "text": "T"},
    ]
    found = READERS["llava"](put("q.jsonl", lines(*rows)), put("images/a.jpg", "").parent)
    assert found[0].image.endswith("images/a.jpg")
    assert (found[0].prompt, found[0].category) == ("Q?" + S1, "random")
    assert found[1] == Sample(2, None, "T")


SAMPLES = [
    Sample(1, "i/a.jpg", "Is it?" + S1, ("Yes",), category="color"),
    Sample(1, "i/a.jpg", "Is it not?" + S1, ("No",), category="color"),
]


def test_answers_there_and_back(tmp_path):
    path = tmp_path / "new" / "answers.jsonl"
    answers = ["Yes,\tit's\n", "ü"]
    WRITERS["llava"](path, SAMPLES, answers, "my-model")
    assert read_answers(path, SAMPLES) == answers
    assert read_answers(path, SAMPLES[::-1]) == answers[::-1]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(rows[0]) == ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]
    assert rows[0]["answer_id"] != rows[1]["answer_id"]


def test_submissions(tmp_path):
    path = tmp_path / "s"
    one, answer = [SAMPLES[0]], ["It's red."]

    WRITERS["vqav2"](path, one, answer, all_ids=[0, 1])
    assert json.loads(path.read_text()) == [
        {"question_id": 0, "answer": ""},
        {"question_id": 1, "answer": "it 's red"},
    ]
    WRITERS["vizwiz"](path, one, answer)
    assert json.loads(path.read_text()) == [{"image": "a.jpg", "answer": "it 's red"}]
    WRITERS["gqa"](path, one, answer)
    assert json.loads(path.read_text()) == [{"questionId": 1, "prediction": "it's red"}]
    WRITERS["mmvet"](path, one, answer)
    assert json.loads(path.read_text()) == {"v1_1": "It's red."}
    WRITERS["seedbench"](path, one, ["A"])
    assert json.loads(path.read_text()) == {"question_id": 1, "prediction": "A"}


def test_mme_submission(tmp_path):
    WRITERS["mme"](tmp_path / "results", SAMPLES, ["Yes", "No\tway\n"])
    assert (tmp_path / "results" / "color.txt").read_text() == (
        "a.txt\tIs it? Please answer yes or no.\tYes\tYes\na.txt\tIs it not? Please answer yes or no.\tNo\tNo way\n"
    )


def test_mmmu_submission_holds_the_letters_that_are_scored(tmp_path):
    samples = [Sample(f"validation_Art_{i}", None, "Q", ("A",), ("x", "y", "z"), "Art") for i in range(20)]
    samples.append(Sample("validation_Art_20", None, "Q", ("7",)))
    answers = ["?"] * 20 + ["it is 7"]
    WRITERS["mmmu"](tmp_path / "m.json", samples, answers, seed=5)
    written = json.loads((tmp_path / "m.json").read_text())
    scores = METRICS["mmmu"]().score(samples, answers, seed=5, n_resamples=0)["scores"]
    assert [float(written[sample.question_id] == "A") for sample in samples[:-1]] == scores[:-1]
    assert written["validation_Art_20"] == "it is 7"


BAD = [
    ("gqa", lambda put: {"questions": "nowhere.json"}, r"nowhere.json: there is no such file.*must be.*read_gqa\("),
    ("gqa", lambda put: {"questions": put("g", "[1,\n")}, "line 2 is no JSON.*read_gqa"),
    ("gqa", lambda put: {"questions": put("g", [1])}, "it holds a list, not a dict.*read_gqa"),
    ("gqa", lambda put: {"questions": put("g", {})}, "it holds no question.*read_gqa"),
    ("gqa", lambda put: {"questions": put("g", {"1": {"question": "Q"}})}, r"question '1' has no \['imageId'\]"),
    ("vqav2", lambda put: {"questions": put("q", {"questions": []})}, r"the file has no \['data_subtype'\]"),
    (
        "vqav2",
        lambda put: vqav2(put) | {"annotations": put("a", {"annotations": []})},
        "it has no answers to question 42000",
    ),
    ("textvqa", lambda put: textvqa(put) | {"ocr": put("o", {"data": []})}, "no tokens of image 'ab'.*Rosetta"),
    ("textvqa", lambda put: textvqa(put) | {"image_folder": "no"}, "`image_folder='no'` has no image no/ab.jpg"),
    ("scienceqa", lambda put: scienceqa(put) | {"split": "dev"}, r"no split 'dev', only \['test'\]"),
    (
        "scienceqa",
        lambda put: scienceqa(put) | {"splits": put("s", {"test": ["9"]})},
        "it has no problem '9'.*read_scienceqa",
    ),
    ("pope", lambda put: {"folder": put("x/y", "").parent}, "it holds no coco_pope_.*adversarial.*read_pope"),
    ("pope", lambda put: {"folder": put("x/coco_pope_random.json", '{"a": 1}\nno').parent}, "line 2 is no JSON"),
    ("mme", lambda put: {"folder": put("x/y", "").parent}, "no folder with the name of a subtask.*existence"),
    ("mme", lambda put: {"folder": put("m/color/1.txt", "Q\tYes\n").parents[1]}, "it has 1 lines.*two lines"),
    ("mme", lambda put: {"folder": put("m/color/1.txt", "Q\tYes\nR\tNo").parents[1]}, "there is no image"),
    ("mmmu", lambda put: {"questions": "no.parquet", "image_folder": "i"}, "no such file.*read_mmmu"),
    ("mmmu", lambda put: {"questions": put("x.parquet", "no"), "image_folder": "i"}, "cannot be read"),
    (
        "seedbench",
        lambda put: {"questions": put("s", {"questions": [{}], "question_type": {}})},
        r"question 0 has no \['question_id'",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_wrong_files(name, arguments, message, put):
    with pytest.raises(ValueError, match=message):
        READERS[name](**arguments(put))


def test_answers_must_fit(tmp_path):
    with pytest.raises(ValueError, match=r"There are 1 answers to 2 samples.*read_answers\(path, samples\)"):
        WRITERS["gqa"](tmp_path / "g", SAMPLES, ["yes"])
    WRITERS["llava"](tmp_path / "a", SAMPLES[:1], ["yes"], "m")
    with pytest.raises(ValueError, match="1 of 2 samples have no answer, the first is 1 with the prompt 'Is it not"):
        read_answers(tmp_path / "a", SAMPLES)
