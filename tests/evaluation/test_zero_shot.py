"""Metrics against brute force, scikit-learn and values worked out by hand, on a model with known embeddings."""

import itertools
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from sklearn.metrics import balanced_accuracy_score

from hf_clip_kd.evaluation import (
    RetrievalEvaluator,
    SequentialEvaluator,
    ZeroShotClassificationEvaluator,
    build_evaluator,
    encode,
    retrieval,
)
from hf_clip_kd.evaluation.ranking import hit_rate


class KnownModel(torch.nn.Module):
    """Image i has the embedding `images[i]`, text t the embedding `texts[t]`."""

    def __init__(self, images, texts):
        super().__init__()
        self.images = torch.nn.Parameter(torch.as_tensor(images))
        self.texts = torch.nn.Parameter(torch.as_tensor(texts))
        self.dropout = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.BatchNorm1d(2).eval()

    def get_image_features(self, pixel_values):
        return self.dropout(self.images[pixel_values])

    def get_text_features(self, input_ids, attention_mask=None):
        assert not torch.is_grad_enabled()
        return SimpleNamespace(pooler_output=self.dropout(self.texts[input_ids]))


def known_processor(texts):
    """Reads the number of an image from its colour, and that of a text from its place in `texts`."""

    def image_processor(images, return_tensors):
        assert all(image.mode == "RGB" for image in images)
        pixels = [image.getpixel((0, 0)) for image in images]
        return {"pixel_values": torch.tensor([red + 256 * green for red, green, _ in pixels])}

    def tokenizer(batch, padding, truncation, max_length, return_tensors):
        return {"input_ids": torch.tensor([texts.index(text) for text in batch])}

    return SimpleNamespace(image_processor=image_processor, tokenizer=tokenizer, context_length=8)


def numbered_images(n):
    return [PILImage.new("RGB", (2, 2), (i % 256, i // 256, 0)) for i in range(n)]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_labelled(labels, names):
    return Dataset.from_dict(
        {"image": numbered_images(len(labels)), "label": labels},
        features=Features({"image": Image(), "label": ClassLabel(names=names)}),
    )


def make_captioned(captions):
    text = Value("string") if isinstance(captions[0], str) else List(Value("string"))
    return Dataset.from_dict(
        {"image": numbered_images(len(captions)), "text": captions},
        features=Features({"image": Image(), "text": text}),
    )


# ---- Zero-shot ----


def zero_shot_case(classes=12, rows=90, dim=6, templates=("a {}.", "the {}!", "{}"), seed=0):
    rng = np.random.default_rng(seed)
    names = [f"class {c}" for c in range(classes)]
    labels = np.minimum(rng.geometric(0.25, rows) - 1, classes - 2)  # skewed, and the last class never occurs
    prompts = [template.replace("{}", name) for name in names for template in templates]
    text_embeds = rng.normal(size=(len(prompts), dim)).astype(np.float32)
    image_embeds = (text_embeds[labels * len(templates)] + 2 * rng.normal(size=(rows, dim))).astype(np.float32)
    # Templates of one class with very different norms: the ensemble has to normalise before it averages.
    text_embeds[:: len(templates)] *= 30
    return (
        make_labelled(labels.tolist(), names),
        list(templates),
        KnownModel(image_embeds, text_embeds),
        prompts,
        labels,
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(("classes", "seed", "batch_size"), [(12, 0, 7), (12, 1, 128), (5, 2, 16), (4, 3, 16)])
def test_zero_shot_matches_topk_and_sklearn(classes, seed, batch_size):
    dataset, templates, model, prompts, labels = zero_shot_case(classes, seed=seed)
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=templates, batch_size=batch_size)
    metrics = evaluator(model, known_processor(prompts))

    texts = unit(model.texts.detach().numpy().astype(np.float64)).reshape(classes, len(templates), -1)
    scores = unit(model.images.detach().numpy().astype(np.float64)) @ unit(texts.mean(axis=1)).T
    ranked = np.argsort(-scores, axis=1)
    expected = {"acc1": np.mean(ranked[:, 0] == labels)}
    if classes >= 5:
        expected["acc5"] = np.mean([label in row[:5] for row, label in zip(ranked, labels, strict=True)])
    expected["mean_per_class_recall"] = balanced_accuracy_score(labels, ranked[:, 0])
    assert metrics == pytest.approx(expected, abs=1e-6)
    assert tuple(metrics) == evaluator.metric_names
    assert evaluator.primary_metric in metrics and evaluator.greater_is_better
    assert abs(metrics["acc1"] - metrics["mean_per_class_recall"]) > 1e-3  # the case tells the two apart


def test_zero_shot_by_hand():
    dataset = make_labelled([0, 0, 0, 1], ["cat", "dog"])
    images = np.array([[1, 0], [3, 1], [0, 2], [1, 9]], dtype=np.float32)
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=["{}"])
    metrics = evaluator(KnownModel(images, np.eye(2, dtype=np.float32)), known_processor(["cat", "dog"]))
    assert metrics == pytest.approx({"acc1": 3 / 4, "mean_per_class_recall": (2 / 3 + 1) / 2})


def test_collapsed_model_scores_like_guessing():
    dataset = make_labelled([0, 1, 2, 3, 4, 5, 6, 7], [f"class {c}" for c in range(8)])
    evaluator = ZeroShotClassificationEvaluator(dataset, templates=["{}"])
    model = KnownModel(np.ones((8, 3), np.float32), np.ones((8, 3), np.float32))
    metrics = evaluator(model, known_processor(evaluator.class_names))
    assert metrics == pytest.approx({"acc1": 1 / 8, "acc5": 5 / 8, "mean_per_class_recall": 1 / 8})


# ---- Retrieval ----


def brute_force_recalls(images, texts, owner):
    """CLIP_benchmark's definition, query by query."""
    scores = unit(texts.astype(np.float64)) @ unit(images.astype(np.float64)).T
    recalls = {}
    for k in (1, 5, 10):
        found = [owner[t] in np.argsort(-scores[t])[:k] for t in range(len(texts))]
        recalls[f"image_retrieval_recall@{k}"] = np.mean(found)
        found = [any(owner[t] == i for t in np.argsort(-scores[:, i])[:k]) for i in range(len(images))]
        recalls[f"text_retrieval_recall@{k}"] = np.mean(found)
    return recalls


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


def test_ties_count_as_their_chance():
    scores = torch.tensor([[0.5, 0.5, 0.9, 0.5, 0.1, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    positives = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()
    for k in range(1, 7):
        expected = []
        for row, positive in zip(scores.tolist(), positives.tolist(), strict=True):
            orders = [sorted(order, key=lambda i: -row[i]) for order in itertools.permutations(range(6))]
            expected.append(np.mean([any(positive[i] for i in order[:k]) for order in orders]))
        assert hit_rate(scores, positives, k).tolist() == pytest.approx(expected, abs=1e-6)


# ---- Every evaluator ----


def two_evaluators():
    dataset = make_labelled([0, 1], ["a", "b"])
    return (
        ZeroShotClassificationEvaluator(dataset, templates=["{}"]),
        RetrievalEvaluator(make_captioned(["a", "b"])),
        KnownModel(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)),
        known_processor(["a", "b"]),
    )


def test_sequential_keeps_plain_names():
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    both = SequentialEvaluator([zero_shot, retrieval_evaluator])
    assert both(model, processor) == zero_shot(model, processor) | retrieval_evaluator(model, processor)
    assert both.primary_metric == "acc1" and both.greater_is_better
    assert set(both.metric_names) == set(both(model, processor))


def test_sequential_prefixes_what_several_return():
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    other = ZeroShotClassificationEvaluator(make_labelled([1, 0], ["a", "b"]), templates=["{}"], name="other")
    metrics = SequentialEvaluator([zero_shot, other, retrieval_evaluator])
    scores = metrics(model, processor)
    assert scores["zero_shot/acc1"] == 1 and scores["other/acc1"] == 0 and "acc1" not in scores
    assert scores["image_retrieval_recall@1"] == 1
    assert metrics.primary_metric == "zero_shot/acc1"


@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_restored(fails):
    evaluator, _, model, processor = two_evaluators()
    model.train()
    model.frozen.eval()
    if fails:
        model.images.data[0] = torch.nan
        with pytest.raises(ValueError, match="image features are not finite"):
            evaluator(model, processor)
    else:
        assert evaluator(model, processor)["acc1"] == 1  # dropout was off
    assert model.training and model.dropout.training and not model.frozen.training


@pytest.mark.parametrize(("tower", "value"), [("images", torch.nan), ("texts", torch.inf)])
def test_features_that_are_not_finite_do_not_score(tower, value):
    zero_shot, retrieval_evaluator, model, processor = two_evaluators()
    getattr(model, tower).data[1, 0] = value
    for evaluator in (zero_shot, retrieval_evaluator):
        with pytest.raises(ValueError, match=f"{tower[:-1]} features are not finite .* first at row 1"):
            evaluator(model, processor)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: ZeroShotClassificationEvaluator(d, image_column="img"), r"`image_column='img'`.*'image', 'label'"),
        (lambda d: ZeroShotClassificationEvaluator(d, label_column="y"), r"`label_column='y'`.*Pass one of them"),
        (lambda d: ZeroShotClassificationEvaluator(d, ["a"]), r"1 labels .* first is 1\. .* from 0 to 0"),
        (lambda d: ZeroShotClassificationEvaluator(d, []), r"`class_names=\[\]` .* non-empty list"),
        (lambda d: ZeroShotClassificationEvaluator(d, "cifar"), "`class_names='cifar'`.*cifar10"),
        (lambda d: ZeroShotClassificationEvaluator(d, templates=["a photo."]), r"'a photo\.' has no place .*\{\}"),
        (lambda d: ZeroShotClassificationEvaluator(d, templates="openai"), "`templates='openai'`.*imagenet1k"),
        (lambda d: ZeroShotClassificationEvaluator(d.select([])), "'zero_shot' is empty"),
        (
            lambda d: ZeroShotClassificationEvaluator(d.to_iterable_dataset()),
            "is a IterableDataset.*without streaming",
        ),
        (lambda d: ZeroShotClassificationEvaluator(d.cast_column("label", Value("int64"))), "brings no names"),
        (lambda d: ZeroShotClassificationEvaluator(make_labelled([0, -1], ["a", "b"])), "Label -1 marks a split"),
        (lambda d: RetrievalEvaluator(d), r"`text_column='text'`.*\['image', 'label'\]"),
        (lambda d: RetrievalEvaluator(make_captioned([["a"], []])), r"Row 1 of column 'text'.*holds \[\]"),
        (lambda d: RetrievalEvaluator(make_captioned(["a", None])), "Row 1 .*holds .?None"),
        (lambda d: RetrievalEvaluator(make_captioned(["a"]).select([])), "'retrieval' is empty"),
        (lambda d: SequentialEvaluator([]), "`evaluators` is empty"),
        (lambda d: SequentialEvaluator([RetrievalEvaluator(make_captioned(["a"]))] * 2), "same name.*`name=...`"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(make_labelled([0, 1], ["a", "b"]))


# ---- Images ----


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


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "I"])
def test_decodes_like_training_does(mode, tmp_path):
    from hf_clip_kd.data.reading.images import decode_image

    values = np.random.default_rng(0).integers(0, 256, size=(8, 8, 4), dtype=np.uint8)
    if mode.startswith("I"):
        image = PILImage.fromarray(values[..., 0].astype(np.uint16) * 257).convert(mode)
    elif mode == "LA":
        image = PILImage.fromarray(values).convert("LA")
    else:
        image = PILImage.fromarray(values if mode == "RGBA" else values[..., :3]).convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I") else "image.png")
    image.save(path)
    stored = {"bytes": path.read_bytes(), "path": None}
    assert np.abs(np.asarray(encode.read_image(stored)).astype(int) - np.asarray(decode_image(stored))).max() <= 1
    if mode.startswith("I"):
        assert np.array_equal(np.asarray(encode.read_image(stored))[..., 0], values[..., 0])


# ---- Rows of tars that could not be read ----


def with_faults(faults, rows=100):
    """Rows as `load_image_text` gives them of tars; the broken ones have nothing but a reason."""
    errors = [f"fault {i}" if i in faults else None for i in range(rows)]
    columns = {
        "image": [None if error else PILImage.new("RGB", (4, 4), (i, 0, 0)) for i, error in enumerate(errors)],
        "text": [None if error else f"caption {i}" for i, error in enumerate(errors)],
        "label": [None if error else i % 3 for i, error in enumerate(errors)],
        "__error__": errors,
        "__key__": [f"key{i}" for i in range(rows)],
    }
    return lambda **_: Dataset.from_dict(columns)


@pytest.mark.parametrize("task", ["retrieval", "zero_shot"])
def test_broken_rows_of_tars_are_left_out(task, caplog):
    options = {"dataset_name": "x"} | ({"class_names": list("abc")} if task == "zero_shot" else {})
    (evaluator,) = build_evaluator({task: options}, with_faults({0, 7, 50})).evaluators
    assert len(evaluator.dataset) == 97 and evaluator.dataset[0]["text"] == "caption 1"
    assert "broken row key7: fault 7" in caplog.text
    with pytest.raises(ValueError, match="6 of 100 rows are broken, the first fault 0.*At most 5%"):
        build_evaluator({task: options}, with_faults(range(6)))


# ---- Real models ----


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
