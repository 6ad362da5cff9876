"""Features of images and texts: broken images are left out, any mode is read, and real models agree."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, Image
from known_model import KnownModel, brute_force_recalls, known_processor, make_captioned

from hf_clip_kd.evaluation import RetrievalEvaluator, encode


def with_broken(n, broken):
    """`n` images with captions, of which those at the positions `broken` are text files."""
    dataset = make_captioned([f"text {i}" for i in range(n)]).cast_column("image", Image(decode=False))
    rows = dataset.to_list()
    for i in broken:
        rows[i]["image"] = {"bytes": b"no image", "path": f"{i}.png"}
    return Dataset.from_list(rows, features=dataset.features)


def test_broken_images_are_left_out_and_named(caplog):
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(40, 4)).astype(np.float32)
    noisy = embeds + rng.normal(size=(40, 4)).astype(np.float32)
    texts = [f"text {i}" for i in range(40)]
    with caplog.at_level(logging.WARNING):
        metrics = RetrievalEvaluator(with_broken(40, [3, 17]), batch_size=8)(
            KnownModel(embeds, noisy), known_processor(texts)
        )
    good = np.setdiff1d(np.arange(40), [3, 17])
    assert metrics == pytest.approx(brute_force_recalls(embeds[good], noisy[good], np.arange(38)), abs=1e-6)
    assert "row 3 (3.png)" in caplog.text and "row 17 (17.png)" in caplog.text


def test_too_many_broken_images():
    model = KnownModel(np.eye(10, dtype=np.float32), np.eye(10, dtype=np.float32))
    with pytest.raises(ValueError, match=r"1 of 10 images .* row 4 \(4.png\).*At most 5%"):
        RetrievalEvaluator(with_broken(10, [4]))(model, known_processor([f"text {i}" for i in range(10)]))


def test_all_images_of_a_small_set_broken():
    model = KnownModel(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="2 of 2 images"):
        RetrievalEvaluator(with_broken(2, [0, 1]))(model, known_processor(["text 0", "text 1"]))


def test_features_of_a_real_model_are_those_of_its_own_forward():
    from hf_clip_kd import CLIPTeacher, load_clip
    from hf_clip_kd.data.shapes import load_shapes

    model, processor = load_clip("test-vit")
    dataset = load_shapes("retrieval", size=9)
    texts = dataset["text"][:]
    images, kept = encode.encode_images(model.eval(), processor, dataset["image"], batch_size=4)
    text_embeds = encode.encode_texts(model, processor, texts, batch_size=4)
    with torch.no_grad():
        inputs = processor(text=texts, images=dataset["image"][:], padding=True, truncation=True, return_tensors="pt")
        outputs = model(**inputs)
    torch.testing.assert_close(images, F.normalize(outputs.image_embeds, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(text_embeds, F.normalize(outputs.text_embeds, dim=-1), atol=1e-5, rtol=0)
    assert kept.tolist() == list(range(9))

    evaluator = RetrievalEvaluator(dataset)
    teacher = CLIPTeacher(model, processor=processor)
    assert evaluator(teacher, teacher.processor) == pytest.approx(evaluator(model, processor))
