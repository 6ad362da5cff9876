"""Losses over similarities in chunks, and those without published values, against plain formulas and autograd."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import BATCH, NARROW, PAIRS, STUDENT, TEACHER, build, features, leaves
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_clip_kd.losses import requested
from hf_clip_kd.losses.cka import alignment
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.losses.parts import chunks as chunks_module
from hf_clip_kd.losses.parts.resample import resample
from hf_clip_kd.losses.siglip_kd import calibrated_bias

CHUNKED = {
    "siglip": {},
    "siglip_kd": {},
    "siglip_kd with a known bias": {"teacher_logit_bias": -10.0},
    "siglip_kd as published": {"teacher_logit_bias": -10.0, "upstream_compat": True},
    "gd": {},
    "relation": {},
    "relation of tokens": {"level": "tokens"},
    "relation of rows": {"form": "kl"},
    "relation of rows of tokens": {"level": "tokens", "form": "kl", "head": True, "grid": "teacher"},
}
every_chunked = pytest.mark.parametrize(("case", "options"), CHUNKED.items(), ids=CHUNKED)
F64 = torch.float64


def both(dims=PAIRS["wider teacher"], scale=14.0) -> tuple[CLIPFeatures, CLIPFeatures]:
    return leaves(features(dims[0], 1, F64, scale)), features(dims[1], 2, F64, scale)


def gradients(loss, student, teacher) -> list[torch.Tensor | None]:
    """The value, and its gradients by everything the student has and the loss has learned."""
    value = loss(student, teacher)
    inputs = [*student.tensors().values(), *loss.parameters()]
    return [value.detach(), *torch.autograd.grad(value, inputs, allow_unused=True)]


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned, in the forward and in the backward pass."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
        return out


# ---- chunks ----


@every_chunked
@pytest.mark.parametrize("elements", [1, 2 * BATCH, 5 * BATCH])
def test_value_and_gradients_do_not_depend_on_the_chunks(monkeypatch, case, options, elements):
    loss = build(case.split()[0], PAIRS["wider teacher"], **options).double()
    whole = gradients(loss, *both())
    monkeypatch.setattr(chunks_module, "CHUNK_ELEMENTS", elements)
    torch.testing.assert_close(gradients(loss, *both()), whole, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["siglip", "siglip_kd", "gd", "relation", "cka"])
def test_no_matrix_of_all_pairs(monkeypatch, name):
    batch = 256
    monkeypatch.setattr(chunks_module, "CHUNK_ELEMENTS", 8 * batch)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        CLIPFeatures(*torch.randn(2, batch, NARROW, generator=generator), torch.tensor(14.0)) for _ in range(2)
    )
    loss, student = build(name, PAIRS["same width"]), leaves(student)
    with LargestTensor() as largest:
        loss(student, teacher).backward()
    assert student.image_embeds.grad.abs().sum() > 0
    assert largest.elements <= 2 * batch * NARROW  # the inputs; a matrix of all pairs has batch ** 2


def test_chunks_keep_only_their_results(monkeypatch):
    monkeypatch.setattr(chunks_module, "CHUNK_ELEMENTS", 2 * 8)
    x = torch.randn(8, 3, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        results = list(chunks_module.chunks(lambda rows: (rows @ x.T).exp().sum(), x, width=8))
    assert len(results) == 4
    assert (2, 8) not in saved  # neither the similarities of a chunk nor what was made of them


# ---- sigmoid ----


def logits_of(values: CLIPFeatures, bias: float) -> torch.Tensor:
    return values.logit_scale * F.normalize(values.image_embeds) @ F.normalize(values.text_embeds).T + bias


def test_siglip_of_each_pair_alone():
    student = features(STUDENT, 1, F64)
    logits = logits_of(student, -10.0)
    expected = sum(
        -F.logsigmoid(logits[i, j] if i == j else -logits[i, j]) for i in range(BATCH) for j in range(BATCH)
    )
    torch.testing.assert_close(build("siglip", (STUDENT, None)).double()(student), expected / BATCH)


def test_siglip_kd_is_the_divergence_of_binary_distributions():
    student, teacher = both()
    loss = build("siglip_kd", PAIRS["wider teacher"], teacher_logit_bias=-4.0).double()
    own, other = (
        torch.distributions.Bernoulli(logits=logits_of(values, bias))
        for values, bias in ((student, -10.0), (teacher, -4.0))
    )
    expected = torch.distributions.kl_divergence(other, own).sum(dim=1).mean()
    torch.testing.assert_close(loss(student, teacher), expected)


def test_siglip_kd_has_its_optimum_at_the_teacher():
    teacher = features(PAIRS["biased"][0], 1, F64)
    loss = build("siglip_kd", (PAIRS["biased"][0],) * 2).double()
    value, *grads = gradients(loss, leaves(teacher), teacher)
    assert value.item() == 0
    assert all(g is None or g.abs().max() < 1e-12 for g in grads)

    # The published form has no minimum: a student that agrees in every sign gains by growing without end.
    published = build("siglip_kd", (PAIRS["biased"][0],) * 2, upstream_compat=True).double()
    values = [
        published(replace(teacher, logit_scale=k * teacher.logit_scale, logit_bias=k * teacher.logit_bias), teacher)
        for k in (1, 2, 4)
    ]
    assert values[0] > values[1] > values[2]


def test_siglip_kd_stays_finite_and_exact_where_probabilities_round_to_0_and_1():
    student, teacher = (
        replace(values.map(torch.Tensor.float), logit_scale=torch.tensor(scale))
        for values, scale in zip(both(), (1e3, -1e3), strict=True)
    )
    for bias in (-100.0, 100.0):
        loss = build("siglip_kd", PAIRS["wider teacher"], teacher_logit_bias=bias)
        value, *grads = gradients(loss, leaves(student), teacher)
        exact = loss.double()(student.map(torch.Tensor.double), teacher.map(torch.Tensor.double))
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)
        assert all(g is None or torch.isfinite(g).all() for g in grads)


def test_siglip_kd_options_replace_what_the_models_have():
    dims = PAIRS["biased"]
    student, teacher = features(dims[0], 1, F64), features(dims[1], 2, F64)
    options = {"logit_scale": 5.0, "teacher_logit_scale": 7.0, "teacher_logit_bias": -3.0}
    fixed = build("siglip_kd", dims, **options)(student, teacher)
    student = replace(student, logit_scale=torch.tensor(5.0))
    teacher = replace(teacher, logit_scale=torch.tensor(7.0), logit_bias=torch.tensor(-3.0))
    torch.testing.assert_close(fixed, build("siglip_kd", dims)(student, teacher))


@pytest.mark.parametrize("scale", [1.0, 14.0, 100.0])
def test_teacher_without_bias_expects_as_many_pairs_as_images(scale):
    teacher = features(TEACHER, 2, F64, scale)
    bias = calibrated_bias(teacher.image, teacher.text, teacher.logit_scale)
    assert logits_of(teacher, bias).sigmoid().sum().item() == pytest.approx(BATCH, abs=1e-2)

    student = features(STUDENT, 1, F64)
    implied, given = (
        build("siglip_kd", PAIRS["wider teacher"], teacher_logit_bias=b).double()(student, teacher)
        for b in (None, bias.item())
    )
    torch.testing.assert_close(implied, given)


def test_bias_of_a_single_pair_is_finite():
    pair = torch.ones(1, 1)
    assert calibrated_bias(pair, pair, torch.tensor(100.0)).isfinite()


# ---- gradients ----


def contrastive_gradients(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
    """Return autograd's gradients of the two cross-entropies by the unit-norm embeddings."""
    image, text = (F.normalize(x).requires_grad_() if not x.requires_grad else F.normalize(x) for x in (image, text))
    logits = scale * image @ text.T
    losses = [F.cross_entropy(direction, torch.arange(BATCH)) for direction in (logits, logits.T)]
    return [g for loss in losses for g in torch.autograd.grad(loss, (image, text), create_graph=True)]


@pytest.mark.parametrize("pair", ["same width", "wider teacher"])
def test_gd_is_the_distance_of_the_gradients_that_autograd_finds(pair):
    loss = build("gd", PAIRS[pair]).double()
    student, teacher = both(PAIRS[pair])
    projected = loss.image_proj(student.image_embeds), loss.text_proj(student.text_embeds)
    own = contrastive_gradients(*projected, student.logit_scale)
    targets = contrastive_gradients(teacher.image_embeds, teacher.text_embeds, teacher.logit_scale)
    expected = sum((a - b.detach()).square().sum() for a, b in zip(own, targets, strict=True)) / BATCH
    inputs = [student.image_embeds, student.text_embeds, student.logit_scale, *loss.parameters()]
    expected_gradients = torch.autograd.grad(expected, inputs)

    student = leaves(student)
    inputs = [student.image_embeds, student.text_embeds, student.logit_scale, *loss.parameters()]
    value = loss(student, teacher)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, inputs), expected_gradients, rtol=1e-9, atol=1e-12)


def test_gd_options():
    student, teacher = both(PAIRS["wider teacher"])
    value = build("gd", PAIRS["wider teacher"], logit_scale=5.0, teacher_logit_scale=7.0).double()(student, teacher)
    own = replace(student, logit_scale=torch.tensor(5.0)), replace(teacher, logit_scale=torch.tensor(7.0))
    torch.testing.assert_close(build("gd", PAIRS["wider teacher"]).double()(*own), value)
    with pytest.raises(ValueError, match=r"reduction='max'.*'gd'.*Allowed are \['sum', 'mean'\].*losses="):
        build("gd", PAIRS["same width"], reduction="max")


def test_default_weight_of_gd_is_worth_about_as_much_as_the_task_at_a_scale_of_100():
    batch, width = 256, 512
    generator = torch.Generator().manual_seed(0)

    def embeddings(shared: float) -> list[torch.Tensor]:
        common, *own = torch.randn(3, batch, width, generator=generator)
        return [math.sqrt(shared) * common + math.sqrt(1 - shared) * x for x in own]

    teacher = CLIPFeatures(*embeddings(0.35), torch.tensor(100.0))
    dims = CLIPDims(width), CLIPDims(width)

    def pull(name: str, student: CLIPFeatures) -> float:
        embeds = student.image_embeds, student.text_embeds
        return torch.cat(torch.autograd.grad(build(name, dims)(replace(student), teacher), embeds)).norm().item()

    ratios = []
    for shared, scale in ((0.0, 14.0), (0.3, 100.0)):  # an untrained student, and one close to its teacher
        student = leaves(CLIPFeatures(*embeddings(shared), torch.tensor(scale)))
        weight = type(build("gd", dims)).default_weight * (batch / 1024) ** 2
        ratios.append(weight * pull("gd", student) / pull("clip", student))
    assert ratios[0] < 0.01 and 0.1 < ratios[1] < 10


# ---- similarities within a batch, or within an image ----


def cosine_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of all cosines among rows."""
    own, other = (F.cosine_similarity(z[:, None], z[None], dim=-1) for z in (x, y))
    return F.mse_loss(own, other)


def test_relation_of_a_batch():
    student, teacher = both()
    expected = [cosine_distance(getattr(student, n), getattr(teacher, n)) for n in ("image_embeds", "text_embeds")]
    loss = build("relation", PAIRS["wider teacher"])
    torch.testing.assert_close(loss(student, teacher), sum(expected) / 2)
    assert not list(loss.parameters())
    # Whoever has no text is compared by images alone.
    torch.testing.assert_close(loss(student, replace(teacher, text_embeds=None)), expected[0])
    build("relation", (STUDENT, replace(TEACHER, has_text=False)))


def test_relation_of_tokens():
    student, teacher = both()
    values = build("relation", PAIRS["wider teacher"], level="tokens").values(student, teacher)
    rows = [
        F.interpolate(  # the teacher's (3, 4) grid as seen from the student's (2, 3)
            tokens.T.reshape(1, -1, 3, 4), (2, 3), mode="bilinear", antialias=True
        )[0]
        .flatten(1)
        .T
        for tokens in teacher.image_tokens
    ]
    expected = [cosine_distance(*pair) for pair in zip(student.image_tokens, rows, strict=True)]
    torch.testing.assert_close(values, torch.stack(expected))


def test_relation_does_not_see_a_rotation():
    teacher = features(STUDENT, 2, F64)
    rotation = torch.linalg.qr(torch.randn(NARROW, NARROW, dtype=F64, generator=torch.Generator().manual_seed(0)))[0]
    rotated = replace(
        teacher, image_embeds=5 * teacher.image_embeds @ rotation, text_embeds=teacher.text_embeds @ rotation
    )
    assert build("relation", PAIRS["same width"])(rotated, teacher).item() < 1e-28
    assert build("cka", PAIRS["same width"])(rotated, teacher).item() == pytest.approx(0, abs=1e-14)


def test_relation_asks_for_tokens_only_where_it_reads_them():
    assert requested({"relation": 1.0}) == FeatureRequest()
    assert requested({"relation": {"level": "tokens", "layer": -3}}) == FeatureRequest(layer=-3, teacher_layer=-2)
    with pytest.raises(ValueError, match=r"level='pixels'.*Allowed are \['batch', 'tokens'\].*losses="):
        build("relation", PAIRS["same width"], level="pixels")
    with pytest.raises(ValueError, match="'relation' reads the student's image tokens, whose width is unknown"):
        build("relation", (replace(STUDENT, token_dim=None), TEACHER), level="tokens")


# ---- alignment ----


def gram_alignment(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """CKA by its definition: the cosine of the two centred Gram matrices, each as large as the batch squared."""
    centring = torch.eye(len(x), dtype=x.dtype) - 1 / len(x)
    grams = [centring @ z @ z.T @ centring for z in (x, y)]
    return F.cosine_similarity(*(gram.flatten() for gram in grams), dim=0)


def test_cka_is_the_cosine_of_the_centred_gram_matrices():
    student, teacher = both()
    expected = [
        1 - gram_alignment(*(F.normalize(getattr(o, n)) for o in (student, teacher)))
        for n in ("image_embeds", "text_embeds")
    ]
    loss = build("cka", PAIRS["wider teacher"])
    torch.testing.assert_close(loss(student, teacher), sum(expected) / 2)
    assert not list(loss.parameters())
    torch.testing.assert_close(loss(student, replace(teacher, text_embeds=None)), expected[0])
    build("cka", (STUDENT, replace(TEACHER, has_text=False)))


@pytest.mark.parametrize("spread", [1e-2, 1.0])
def test_alignment_in_fp32_stays_within_its_range(spread):
    # Rows in a narrow cone, as those of an untrained tower.
    x, y = (F.normalize(1 + spread * z) for z in torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(0)))
    assert 0 <= alignment(x, y).item() < 0.9
    assert alignment(x, y).item() == pytest.approx(gram_alignment(x.double(), y.double()).item(), abs=1e-5)
    assert alignment(x, x).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_cka_of_embeddings_that_are_all_the_same_is_1_without_a_gradient(rows):
    student, teacher = (values.map(torch.Tensor.float) for values in both())
    student = leaves(CLIPFeatures(student.image_embeds[:1].expand(rows, -1)))
    value = build("cka", PAIRS["wider teacher"])(student, CLIPFeatures(teacher.image_embeds[:rows]))
    value.backward()
    assert value.item() == pytest.approx(1)
    assert student.image_embeds.grad.norm() < 1e-6  # rounding errors do not count as differences


# ---- token maps ----


def test_resampling():
    tokens = features(TEACHER, 2, F64).image_tokens
    assert resample(tokens, (3, 4), (3, 4)) is tokens
    # A map that grows evenly from left to right does so on any grid. A coarser grid averages the finer one.
    ramp = torch.arange(8.0).repeat(4, 1).reshape(1, 32, 1)
    coarse = resample(ramp, (4, 8), (2, 4)).reshape(2, 4)
    torch.testing.assert_close(coarse.diff(dim=1)[:, 1], torch.full((2,), 2.0))
    torch.testing.assert_close(coarse.mean(), ramp.mean())
    constant = resample(torch.full((2, 12, 5), 3.0), (3, 4), (7, 2))
    torch.testing.assert_close(constant, torch.full((2, 14, 5), 3.0))
