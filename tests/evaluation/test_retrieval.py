"""Recalls against brute force and values worked out by hand, on a model with known embeddings."""

import numpy as np
import pytest
from known_model import KnownModel, brute_force_recalls, known_processor, make_captioned

from hf_clip_kd.evaluation import RetrievalEvaluator, retrieval


@pytest.mark.parametrize("chunk_elements", [2**24, 150, 1])
@pytest.mark.parametrize(("seed", "most_captions"), [(0, 1), (1, 5)])
def test_retrieval_matches_brute_force(monkeypatch, seed, most_captions, chunk_elements):
    monkeypatch.setattr(retrieval, "CHUNK_ELEMENTS", chunk_elements)
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most_captions + 1, size=40)
    owner = np.repeat(np.arange(40), counts)
    texts = [f"text {t}" for t in range(len(owner))]
    captions = [[texts[t] for t in np.flatnonzero(owner == i)] for i in range(40)]
    if most_captions == 1:
        captions = [caption for (caption,) in captions]
    images = rng.normal(size=(40, 5)).astype(np.float32)
    text_embeds = (images[owner] + 0.8 * rng.normal(size=(len(owner), 5))).astype(np.float32)
    evaluator = RetrievalEvaluator(make_captioned(captions), batch_size=7)
    metrics = evaluator(KnownModel(images, text_embeds), known_processor(texts))
    assert metrics == pytest.approx(brute_force_recalls(images, text_embeds, owner), abs=1e-6)
    assert set(metrics) == set(evaluator.metric_names) and evaluator.primary_metric in metrics


def test_retrieval_by_hand():
    # Image 0 has captions a (right) and b (nearer to image 1); image 1 has c, which is nearer to image 0.
    images = np.array([[1, 0], [0, 1]], dtype=np.float32)
    texts = np.array([[1, 0.1], [0.1, 1], [1, 0.5]], dtype=np.float32)
    evaluator = RetrievalEvaluator(make_captioned([["a", "b"], ["c"]]))
    metrics = evaluator(KnownModel(images, texts), known_processor(["a", "b", "c"]))
    # Text to image: a hits, b and c miss. Image to text: image 0 finds a; image 1 finds b, which is not its own.
    # There is no fifth candidate, so no recall@5.
    assert metrics == pytest.approx({"image_retrieval_recall@1": 1 / 3, "text_retrieval_recall@1": 1 / 2})
