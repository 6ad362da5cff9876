"""Retrieval in many languages: by hand, and against brute force in each language."""

import numpy as np
import pytest
from caption_files import model_of, write_lines, write_pictures
from known_model import brute_force_recalls, numbered_images

from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.multilingual import MultilingualRetrievalEvaluator


def test_by_hand(tmp_path):
    keys = "ab"
    write_pictures(tmp_path / "images", [f"{key}.jpg" for key in keys])
    rows = [{"image/key": key, "en": {"caption": [f"en {key}"]}, "de": {"caption": [f"de {key}"]}} for key in keys]
    block = {
        "task": "multilingual_retrieval",
        "dataset_name": "xm3600",
        "annotations": str(write_lines(tmp_path / "captions.jsonl", rows)),
        "image_folder": str(tmp_path / "images"),
    }
    (evaluator,) = build_evaluator({"xm3600": block}, load=None).evaluators
    x, y = np.eye(2)
    # English is right. Both German captions are nearest to picture b, "de a" nearer than its own.
    texts = {"en a": x, "en b": y, "de a": y, "de b": x + 2 * y}
    metrics = evaluator(*model_of(texts, [x, y]))
    by_language = {
        "en": {"image_retrieval_recall@1": 1.0, "text_retrieval_recall@1": 1.0},
        "de": {"image_retrieval_recall@1": 0.5, "text_retrieval_recall@1": 0.0},
    }
    assert evaluator.details["by_language"] == by_language
    assert metrics == {"image_retrieval_recall@1": 0.75, "text_retrieval_recall@1": 0.5}
    assert evaluator.counts == {"n_images": 2, "n_texts": 4, "n_languages": 2}
    assert evaluator.details["language"] == "en,de" and evaluator.details["protocol"].startswith("all_captions: ")


def test_agrees_with_brute_force():
    rng, number = np.random.default_rng(0), 15
    images = rng.normal(size=(number, 5))
    captions, texts = {}, {}
    for language in ("en", "de", "quz"):
        captions[language] = [[f"{language} {i} {j}" for j in range(1 + i % 3)] for i in range(number)]
        texts |= {
            text: images[i] + 1.5 * rng.normal(size=5) for i, own in enumerate(captions[language]) for text in own
        }
    evaluator = MultilingualRetrievalEvaluator(numbered_images(number), captions, batch_size=4)
    metrics = evaluator(*model_of(texts, images))
    recalls = []
    for language, rows in captions.items():
        own = np.array([texts[text] for captions in rows for text in captions])
        owner = [i for i, captions in enumerate(rows) for _ in captions]
        recalls.append(brute_force_recalls(images, own, owner))
        assert evaluator.details["by_language"][language] == pytest.approx(recalls[-1])
    assert metrics == pytest.approx({name: np.mean([found[name] for found in recalls]) for name in recalls[0]})
    assert len({found["image_retrieval_recall@1"] for found in recalls}) > 1


BLOCK = {"dataset_name": "xm3600", "annotations": "captions.jsonl", "image_folder": "images"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_name": "xtd"}, "`dataset_name: 'xtd'` is no multilingual set. There is `xm3600`"),
        ({"image_folder": None}, "`image_folder: None` is no path.*Write e.g. `xm3600: "),
        ({"languages": "de"}, r"`languages: 'de'` is no list of languages.*`languages: \[en, de\]`"),
        ({"languages": ["de", "de"]}, r"`languages: \['de', 'de'\]` is no list.*each once"),
        ({"languages": [["de"]]}, r"`languages: \[\['de'\]\]` is no list of languages"),
        ({"protocol": []}, r"`protocol: \[\]` is no name. It must be all_captions or clip_benchmark"),
        ({"batch_size": 0}, "`batch_size: 0` is no number of images"),
        ({"protocol": "x"}, "`protocol: 'x'` does not exist"),
        ({"language": "de"}, "'language' is no argument of the task 'multilingual_retrieval'.*Did you mean"),
        ({}, r"captions\.jsonl: there is no such file"),
    ],
)
def test_a_wrong_block_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build_evaluator({"multilingual_retrieval": BLOCK | changes}, load=None)
