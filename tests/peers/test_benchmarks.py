"""Benchmarks as lmms-eval's own functions and CLIP_benchmark's score them: the same made-up answers, one by one."""

import random

import numpy as np
import pytest
import torch
from caption_files import model_of, write_pictures
from peer_wheels import CLIP_BENCHMARK, LMMS_EVAL, functions, lmms_eval, unpacked
from vqa_benchmarks import compute

from hf_clip_kd.evaluation.compositional import COMPOSITIONAL, Case, CompositionalEvaluator

pytestmark = pytest.mark.slow

NUMBER = 600
# Ways in which models write a letter, and texts that only look like it.
FORMS = (
    "{}", "({})", "{}.", "{}. blue", "({}) blue", "{}: blue", "{}) blue", "The answer is {}.", "The answer is ({})",
    "Answer: {}", "Option {}", "I choose {}", "my choice is {}, not A", "It is {}", "so I pick ({}) here.", "blue",
    "Blue", "a cat", "A cat, so {}", "", "no idea", "I grab it", "{} or B", "the correct option is {}", "{}\nbecause",
)  # fmt: skip


@pytest.fixture
def theirs(monkeypatch):
    return lmms_eval(monkeypatch)


def said(rng, letters):
    """Return made-up answers with letters among these, some of them in lower case."""
    texts = [rng.choice(FORMS).format(rng.choice(letters)) for _ in range(NUMBER)]
    return [text.lower() if rng.random() < 0.2 else text for text in texts]


def ours(benchmark, answers, rows):
    return compute(benchmark, answers, *rows, protocol="lmms_eval")


def test_mmvp(theirs):
    module, rng = theirs("tasks.mmvp.utils"), random.Random(0)
    answers, truth = said(rng, "AB"), [rng.choice("AB") for _ in range(NUMBER)]
    docs = [{"Index": i + 1, "Correct Answer": f"({label.lower()})"} for i, label in enumerate(truth)]
    judged = [
        module.mmvp_process_results(doc, [text])["mmvp_accuracy"] for doc, text in zip(docs, answers, strict=True)
    ]
    found = ours("mmvp", answers, [{"answers": [label], "choices": ["x", "y"]} for label in truth])
    assert found["scores"] == [entry["is_correct"] for entry in judged]
    assert found["pair_accuracy"] == pytest.approx(module.mmvp_aggregate_pair_results(judged))


def test_cvbench(theirs):
    module, rng = theirs("tasks.cv_bench.utils"), random.Random(1)
    answers, truth = said(rng, "ABCD"), [rng.choice("ABCD") for _ in range(NUMBER)]
    sources = [rng.choice(["ADE20K", "COCO", "Omni3D"]) for _ in truth]
    docs = [
        {"answer": f"({label})", "idx": i, "type": "2D", "task": "Count", "source": source}
        for i, (label, source) in enumerate(zip(truth, sources, strict=True))
    ]
    judged = [
        module.cv_bench_process_results(doc, [text])["cv_bench_acc"] for doc, text in zip(docs, answers, strict=True)
    ]
    rows = [{"answers": [doc["answer"].strip("()")], "category": f"{doc['source']}/Count"} for doc in docs]
    found = ours("cvbench", answers, rows)
    assert found["scores"] == [entry["is_correct"] for entry in judged]
    assert found["combined"] == pytest.approx(module.cv_bench_default_aggregate_results(judged))


def test_blink(theirs):
    module, rng = theirs("tasks.blink.utils"), random.Random(2)
    answers = said(rng, "ABCD")
    docs = []
    for i in range(NUMBER):
        choices = ["x"] * rng.randrange(2, 5)
        docs.append(
            {"answer": f"({rng.choice('ABCD'[: len(choices)])})", "choices": choices, "idx": i, "sub_task": ""}
        )
    judged = [module.blink_process_results(doc, [text])["blink_acc"] for doc, text in zip(docs, answers, strict=True)]
    rows = [{"answers": [doc["answer"].strip("()")], "choices": doc["choices"], "category": "Jigsaw"} for doc in docs]
    found = ours("blink", answers, rows)
    assert found["scores"] == [entry["is_correct"] for entry in judged]
    assert found["accuracy"] == pytest.approx(module.blink_aggregate_results(judged))


@pytest.mark.parametrize(("kind", "labels"), [("yes_no", ("Yes", "No")), ("multiple_choice", ("A", "B"))])
def test_naturalbench(theirs, kind, labels):
    module, rng = theirs("tasks.naturalbench.utils"), random.Random(3)
    forms = ["{}", "{}.", "I say {}", "{} and not {}", "none", "", "yesterday {}", "not Bad"]
    answers = [rng.choice(forms).format(rng.choice(labels), rng.choice(labels)) for _ in range(NUMBER)]
    read = [module.extract_answer(text, kind) for text in answers]
    scores = module.get_scores([read[start : start + 4] for start in range(0, NUMBER, 4)])
    group = [{"answers": [labels[i]]} for i in (0, 1, 1, 0)]
    found = ours("naturalbench", answers, group * (NUMBER // 4))
    names = {"Acc": "accuracy", "Q_Acc": "question_accuracy", "I_Acc": "image_accuracy", "G_Acc": "group_accuracy"}
    assert {name: found[own] for name, own in names.items()} == pytest.approx(scores)
    assert found["group_accuracy"] > 0


def test_realworldqa(theirs):
    module, rng = theirs("tasks.realworldqa.utils"), random.Random(4)
    truth = [rng.choice(["A", "B", "C", "Yes", "2", "Downhill"]) for _ in range(NUMBER)]
    pairs = zip(said(rng, "ABC"), truth, strict=True)
    answers = [rng.choice([text, label, f"{label}.", label.lower()]) for text, label in pairs]
    expected = [
        module.realworldqa_process_results({"answer": label}, [text])["exact_match"]
        for label, text in zip(truth, answers, strict=True)
    ]
    assert (
        ours("realworldqa", answers, [{"answers": [label], "category": ""} for label in truth])["scores"] == expected
    )


def test_mmstar(theirs):
    module, rng = theirs("tasks.mmstar.utils"), random.Random(5)
    answers, kinds = said(rng, "ABCD"), [rng.choice(["geometry", "sums", "codes"]) for _ in range(NUMBER)]
    docs = [{"answer": rng.choice("ABCD"), "category": "math", "l2_category": kind, "index": 0} for kind in kinds]
    judged = [module.mmstar_process_results(doc, [text])["math"] for doc, text in zip(docs, answers, strict=True)]
    rows = [{"answers": [doc["answer"]], "category": f"math/{doc['l2_category']}"} for doc in docs]
    found = ours("mmstar", answers, rows)
    assert found["scores"] == [entry["score"] for entry in judged]
    assert found["math/accuracy"] == pytest.approx(module.mmstar_aggregate_results(judged))


def test_chartqa(theirs):
    module, rng = theirs("tasks.chartqa.utils"), random.Random(6)
    texts = ["14", "14.7", "14.8", "-14", "0", "0.0", "0.14", "14%", "Yes", "yes", "yes.", "1,000", "1000", ""]
    answers, truth = ([rng.choice(texts) for _ in range(NUMBER)] for _ in range(2))
    expected = [float(module.relaxed_correctness(*pair)) for pair in zip(answers, truth, strict=True)]
    assert (
        ours("chartqa", answers, [{"answers": [label], "category": "human"} for label in truth])["scores"] == expected
    )


def test_ocrbench(theirs):
    module, rng = theirs("tasks.ocrbench.utils"), random.Random(7)
    formula, words = "Handwritten Mathematical Expression Recognition", "Regular Text Recognition"
    pool = ["a b", "AB", "\uff21\uff22", "x = 1", "x=1", "ab\nc", "say AB here", "", "c"]
    answers, rows, expected = [rng.choice(pool) for _ in range(NUMBER)], [], []
    for text in answers:
        kind, accepted = rng.choice([formula, words]), rng.sample(pool[:-2], 2)
        doc = {"answer": accepted, "dataset": "HME100k" if kind == formula else "svt", "question_type": kind}
        expected.append(module.ocrbench_process_results(doc, [text])["ocrbench_accuracy"]["score"])
        rows.append({"answers": accepted, "category": kind})
    assert ours("ocrbench", answers, rows)["scores"] == expected and 0 < sum(expected) < NUMBER


@pytest.mark.parametrize("benchmark", ["docvqa", "infovqa"])
def test_anls(benchmark):
    anls, _ = functions(unpacked(LMMS_EVAL) / "lmms_eval/api/metrics.py", "anls", "levenshtein_distance")
    rng = random.Random(8)
    words = ["".join(rng.choices("abA 1%", k=rng.randrange(1, 9))) for _ in range(60)]
    answers, truth = [rng.choice(words) for _ in range(NUMBER)], [rng.sample(words, 2) for _ in range(NUMBER)]
    # Both take an answer as it is generated, without spaces around it.
    answers = [text.strip() or "x" for text in answers]
    expected = [anls(accepted, [text])["anls"] for accepted, text in zip(truth, answers, strict=True)]
    found = ours(benchmark, answers, [{"answers": accepted, "category": "form"} for accepted in truth])
    assert found["scores"] == pytest.approx(expected) and 0 < found["anls"] < 1


def test_ai2d(theirs):
    module, rng = theirs("tasks.ai2d.utils"), random.Random(9)
    (exact,) = functions(unpacked(LMMS_EVAL) / "lmms_eval/api/metrics.py", "exact_match_hf_evaluate")
    answers, truth = said(rng, "ABCD"), [rng.choice("ABCD") for _ in range(NUMBER)]
    read = module.MultiChoiceRegexFilter().apply([[text] for text in answers], [{}] * NUMBER)
    expected = [
        exact([text], [label], ignore_case=True, ignore_punctuation=True)["exact_match"]
        for text, label in zip(read, truth, strict=True)
    ]
    assert ours("ai2d", answers, [{"answers": [label]} for label in truth])["scores"] == expected


@pytest.mark.parametrize(("name", "pictures", "captions"), [("winoground", 2, 2), ("sugarcrepe", 1, 2)])
def test_captions_as_clip_benchmark_does(tmp_path, monkeypatch, name, pictures, captions):
    monkeypatch.syspath_prepend(str(unpacked(CLIP_BENCHMARK)))
    from clip_benchmark.metrics import image_caption_selection

    rng, number = np.random.default_rng(0), 80
    files = [str(tmp_path / f"{i}.png") for i in range(number * pictures)]
    write_pictures(tmp_path, [f"{i}.png" for i in range(number * pictures)])
    images = rng.normal(size=(number * pictures, 4)).astype(np.float32)
    texts = {f"{i} {j}": rng.normal(size=4) for i in range(number) for j in range(captions)}
    for i in range(number):
        texts[f"{i} 0"] = texts[f"{i} 0"] + images[i * pictures]
    rows = [[f"{i} {j}" for j in range(captions)] for i in range(number)]
    cases = [Case(tuple(files[i * pictures :][:pictures]), tuple(row), "add_att") for i, row in enumerate(rows)]
    metrics = CompositionalEvaluator(cases, COMPOSITIONAL[name])(*model_of(texts, images))

    class Model:
        def encode_image(self, pixels):
            return torch.tensor(images)[pixels[:, 0, 0, 0].long()]

        def encode_text(self, ids):
            return torch.tensor(np.array(list(texts.values()), dtype=np.float32))[ids]

    order = list(texts)
    pixels = torch.arange(number * pictures, dtype=torch.float32).reshape(number, pictures, 1, 1, 1)
    found = image_caption_selection.evaluate(
        Model(), [(pixels, rows)], lambda given: torch.tensor([order.index(text) for text in given]), "cpu", amp=False
    )
    shared = ("text_acc", "image_acc", "acc") if pictures == 2 else ("text_acc",)
    assert {key: metrics[key] for key in shared} == pytest.approx({key: found[key] for key in shared})
    assert 0.2 < metrics["text_acc"] < 0.95
