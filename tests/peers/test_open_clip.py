"""Losses, zero-shot classification and retrieval as open_clip's own code computes them."""

import open_clip
import open_clip.loss
import pytest
import torch
from open_clip_train import train, zero_shot
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from hf_clip_kd.data.shapes import SHAPES_CLASS_NAMES, SHAPES_TEMPLATES, load_shapes
from hf_clip_kd.evaluation import RetrievalEvaluator, ZeroShotClassificationEvaluator
from hf_clip_kd.export import export_model
from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.models import load_clip

pytestmark = pytest.mark.slow

TEACHER_SCALE = 50.0


def clip(image, text, scale, bias, teacher):
    return open_clip.loss.ClipLoss()(image, text, scale)


def clip_beside_a_teacher(image, text, scale, bias, teacher):
    return open_clip.loss.DistillClipLoss()(image, text, scale, *teacher, TEACHER_SCALE)[0]


def siglip(image, text, scale, bias, teacher):
    return open_clip.loss.SigLipLoss()(image, text, scale, bias)


def distill(image, text, scale, bias, teacher):
    return open_clip.loss.DistillClipLoss()(image, text, scale, *teacher, TEACHER_SCALE)[1]


def distill_without_entropy(image, text, scale, bias, teacher):
    logits = TEACHER_SCALE * teacher[0] @ teacher[1].T
    entropy = sum(-(side.softmax(1) * side.log_softmax(1)).sum(1).mean() for side in (logits, logits.T)) / 2
    return distill(image, text, scale, bias, teacher) - entropy


# Loss of ours, open_clip's, and what it learns besides the embeddings.
PAIRS = [
    ("clip", clip, ("scale",)),
    ("clip", clip_beside_a_teacher, ("scale",)),
    ("siglip", siglip, ("scale", "bias")),
    ("affinity", distill, ("scale",)),
    ("crd", distill_without_entropy, ("scale",)),
]


@pytest.mark.parametrize(("name", "theirs", "learned"), PAIRS, ids=[pair[1].__name__ for pair in PAIRS])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
@pytest.mark.parametrize("n", [2, 7, 64])
def test_losses_and_gradients(n, scale, name, theirs, learned):
    double = {"dtype": torch.float64}
    student = [torch.randn(n, 32, requires_grad=True, **double) for _ in range(2)]
    teacher = [normalize(torch.randn(n, 48, **double), dim=-1) for _ in range(2)]
    scalars = {"scale": scale, "bias": -10.0}
    scalars = {key: torch.tensor(value, requires_grad=True, **double) for key, value in scalars.items()}
    inputs = [*student, *(scalars[key] for key in learned)]

    loss = LOSSES[name](CLIPDims(32, has_bias="bias" in learned), CLIPDims(48))
    ours = loss(
        CLIPFeatures(*student, logit_scale=scalars["scale"], logit_bias=scalars["bias"]),
        CLIPFeatures(*teacher, logit_scale=torch.tensor(TEACHER_SCALE, **double)),
    )
    expected = theirs(*(normalize(side, dim=-1) for side in student), scalars["scale"], scalars["bias"], teacher)
    # Gradients of the bias cancel for few pairs and a large scale, so they have an absolute bound.
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad(ours, inputs), torch.autograd.grad(expected, inputs)
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module", params=["shapes-vit-t", "test-resnet"])
def student(request, tmp_path_factory):
    """A student with its processor, and the same as open_clip's model, transform and tokenizer."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    model, processor = load_clip(request.param)
    model.eval().save_pretrained(folder / "run")
    processor.save_pretrained(folder / "run")
    export_model(folder / "run", folder / "out", ["open_clip"])
    name = f"local-dir:{folder / 'out'}"
    theirs, _, transform = open_clip.create_model_and_transforms(name)
    return model, processor, theirs.eval(), transform, open_clip.get_tokenizer(name)


def test_zero_shot(student, monkeypatch):
    model, processor, theirs, transform, tokenizer = student
    rows = load_shapes("zero_shot", size=512)
    evaluator = ZeroShotClassificationEvaluator(rows, SHAPES_CLASS_NAMES, SHAPES_TEMPLATES)
    classifier = open_clip.build_zero_shot_classifier(theirs, tokenizer, SHAPES_CLASS_NAMES, SHAPES_TEMPLATES)
    torch.testing.assert_close(evaluator.classifier(model, processor), classifier.T, rtol=0, atol=1e-6)

    # numpy refuses float() of an array with one element, which open_clip calls.
    monkeypatch.setattr(zero_shot, "float", lambda array: array.item(), raising=False)
    batches = DataLoader([(transform(row["image"]), row["label"]) for row in rows], batch_size=64)
    arguments = type("Arguments", (), {"device": "cpu", "precision": "fp32", "batch_size": 64})
    expected = dict(zip(("acc1", "acc5"), zero_shot.run(theirs, classifier, batches, arguments), strict=True))
    found = evaluator(model, processor)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-7)
    assert 0 < found["acc1"] < found["acc5"] < 1


@torch.no_grad()
def test_retrieval(student):
    model, processor, theirs, transform, tokenizer = student
    rows = load_shapes("retrieval", size=256)
    found = RetrievalEvaluator(rows)(model, processor)
    images = theirs.encode_image(torch.stack([transform(row["image"]) for row in rows]), normalize=True)
    texts = theirs.encode_text(tokenizer(rows["text"][:]), normalize=True)
    expected = train.get_clip_metrics(images, texts, torch.tensor(1.0))
    # Each row has one caption. "image_to_text" finds a text.
    names = {"image": "text_to_image", "text": "image_to_text"}
    for side, name in names.items():
        for k in (1, 5, 10):
            assert found[f"{side}_retrieval_recall@{k}"] == pytest.approx(expected[f"{name}_R@{k}"], abs=1e-7)
    assert 0 < found["image_retrieval_recall@10"] < 1
