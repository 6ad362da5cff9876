"""The chunked evaluation of similarity losses is that of the formulas, with gradients, and keeps no matrix."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hf_clip_kd.losses import LOSSES, LossSum, similarity
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses.similarity import Similarities, Term, evaluate

BATCH, WIDTH = 13, 5  # 13 is a multiple of no number of rows
# Rows at a time: one, some with a rest, all.
CHUNKS = {"row by row": BATCH, "with a rest": 4 * BATCH, "at once": 2**22}
# Number of teachers (none: the diagonal), KL divergence, columns too.
KINDS = {
    "diagonal": (0, False, True),
    "diagonal, rows": (0, False, False),
    "cross-entropy": (1, False, True),
    "cross-entropy, rows": (1, False, False),
    "divergence": (1, True, True),
    "divergence, rows": (1, True, False),
    "ensemble": (3, False, True),
    "ensemble, rows": (3, False, False),
    "divergence from ensemble": (2, True, True),
}
SIMILARITY_LOSSES = ["clip", "crd", "affinity", "reinforced", "icl", "cross_kd", "afd"]
every_chunk = pytest.mark.parametrize("elements", CHUNKS.values(), ids=CHUNKS)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def unit(seed, batch=BATCH, width=WIDTH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(batch, width, generator=generator, dtype=dtype), dim=-1)


def logits(seed=0, scale=7.0, requires_grad=True, **options):
    tensors = unit(seed, **options), unit(seed + 1, **options)
    values = (*tensors, tensors[0].new_tensor(scale))
    return Similarities(*(x.clone().requires_grad_(requires_grad) for x in values))


def term(student, kind):
    teachers, divergence, columns = kind
    targets = tuple(logits(10 * k + 10, scale=9.0 + k, requires_grad=False, width=WIDTH + k) for k in range(teachers))
    return Term(student, targets, divergence, columns)


def whole(similarities):
    return similarities.scale * similarities.queries @ similarities.keys.T


def written_down(term):
    """The value of a term from whole matrices, by autograd."""
    sides = []
    for transpose in (False, True) if term.columns else (False,):
        student, *teachers = (whole(x).T if transpose else whole(x) for x in (term.logits, *term.targets))
        if teachers:
            target = torch.stack([x.softmax(-1) for x in teachers]).mean(0)
        else:
            target = torch.eye(len(student), dtype=student.dtype)
        value = -(target * student.log_softmax(-1)).sum(-1).mean()
        entropy = -torch.special.xlogy(target, target).sum(-1).mean()
        sides.append(value - entropy if term.divergence else value)
    return sum(sides) / len(sides)


def gradients(value, tensors):
    return torch.autograd.grad(value, tensors, retain_graph=True)


@every_chunk
@every_kind
def test_value_and_gradient_are_those_of_the_formula(monkeypatch, elements, kind):
    monkeypatch.setattr(similarity, "CHUNK_ELEMENTS", elements)
    student = logits()
    cross_entropy = term(student, kind)
    total, parts = evaluate([{cross_entropy: 0.5}], [3.0])
    expected = written_down(cross_entropy)

    torch.testing.assert_close(parts, 0.5 * expected.detach()[None], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(total, 1.5 * expected, rtol=1e-10, atol=1e-12)
    assert total.requires_grad and not parts.requires_grad
    # The factor stands for a gradient scaler.
    found = gradients(1024 * total, student.tensors)
    torch.testing.assert_close(found, gradients(1024 * 1.5 * expected, student.tensors), rtol=1e-10, atol=1e-10)


@every_kind
def test_gradcheck(monkeypatch, kind):
    monkeypatch.setattr(similarity, "CHUNK_ELEMENTS", 4 * BATCH)
    student = logits()
    fixed = term(student, kind)

    def value(*tensors):
        return evaluate([{replace(fixed, logits=Similarities(*tensors)): 1.0}], [1.0])[0]

    assert torch.autograd.gradcheck(value, student.tensors, atol=1e-6)


@every_chunk
def test_shared_similarities_give_what_separate_ones_do(monkeypatch, elements):
    monkeypatch.setattr(similarity, "CHUNK_ELEMENTS", elements)
    student, other = logits(), logits(5)
    crossed = Similarities(student.keys, other.keys, other.scale)  # the same tensor as keys here and as queries there
    terms = [{term(student, kind): 1.0} for kind in KINDS.values()]
    terms.append({Term(crossed): 0.5, Term(student, columns=False): 0.25})
    weights = [0.1 * (i + 1) for i in range(len(terms))]
    inputs = [*student.tensors, other.keys, other.scale]

    together, parts = evaluate(terms, weights)
    alone = [evaluate([terms_of_one], [1.0])[0] for terms_of_one in terms]
    torch.testing.assert_close(parts, torch.stack(alone).detach(), rtol=1e-12, atol=1e-12)
    separate = sum(weight * value for weight, value in zip(weights, alone, strict=True))
    torch.testing.assert_close(together, separate, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(together, inputs), gradients(separate, inputs), rtol=1e-11, atol=1e-12)


def test_shared_similarities_are_computed_once(monkeypatch):
    computed, rows = [], Similarities.rows
    monkeypatch.setattr(
        Similarities, "rows", lambda self, *a, **k: computed.append(self.tensors) or rows(self, *a, **k)
    )
    student = logits()
    evaluate([{Term(student): 1.0}, {Term(Similarities(*student.tensors)): 1.0}], [1.0, 1.0])
    assert len(computed) == 2  # one pass for the columns' logsumexp, one for values and gradients


def test_only_what_needs_a_gradient_gets_one():
    queries, keys, scale = logits().tensors
    total, _ = evaluate([{Term(Similarities(queries, keys.detach(), scale.detach())): 1.0}], [1.0])
    (found,) = torch.autograd.grad(total, queries)
    expected = written_down(Term(Similarities(queries, keys, scale)))
    torch.testing.assert_close(found, torch.autograd.grad(expected, queries)[0], rtol=1e-10, atol=1e-12)

    with torch.no_grad():
        value, _ = evaluate([{Term(Similarities(queries, keys, scale)): 1.0}], [1.0])
    assert not value.requires_grad and value == total


@every_kind
def test_without_gradient_the_value_is_the_same(kind):
    student = logits()
    cross_entropy = term(student, kind)
    with torch.no_grad():
        without = evaluate([{cross_entropy: 1.0}], [1.0])[0]
    assert torch.equal(without, evaluate([{cross_entropy: 1.0}], [1.0])[0])


@every_chunk
@pytest.mark.parametrize("columns", [True, False])
def test_divergence_is_exactly_zero_where_both_agree(monkeypatch, elements, columns):
    monkeypatch.setattr(similarity, "CHUNK_ELEMENTS", elements)
    student = logits(scale=100.0, dtype=torch.float32)
    same = Similarities(*(x.detach().clone() for x in student.tensors))
    total, _ = evaluate([{Term(student, (same,), divergence=True, columns=columns): 1.0}], [1.0])
    assert total.item() == 0
    assert all(g.abs().max() < 1e-6 for g in gradients(total, student.tensors))


def test_divergence_is_not_negative_where_both_nearly_agree():
    for seed in range(20):
        student = logits(seed, scale=20.0, dtype=torch.float32)
        close = Similarities(student.queries.detach() * (1 + 1e-6), student.keys.detach(), student.scale.detach())
        assert evaluate([{Term(student, (close,), divergence=True): 1.0}], [1.0])[0] >= 0


@pytest.mark.parametrize("scales", [(100.0, 1.0), (1.0, 100.0), (100.0, 100.0)])
@every_kind
def test_large_scales_stay_finite_in_fp32(kind, scales):
    # Opposite features: the logits reach from -100 to 100, where exponentials under- and overflow.
    x = unit(0, dtype=torch.float32)
    student = Similarities(*(t.requires_grad_() for t in (x.clone(), -x.clone(), torch.tensor(scales[0]))))
    targets = tuple(Similarities(x, x, torch.tensor(scales[1])) for _ in range(kind[0]))
    total, _ = evaluate([{Term(student, targets, *kind[1:]): 1.0}], [1.0])
    assert torch.isfinite(total)
    assert all(torch.isfinite(g).all() for g in gradients(total, student.tensors))


def test_is_differentiable_once():
    student = logits()
    total, _ = evaluate([{Term(student): 1.0}], [1.0])
    (gradient,) = torch.autograd.grad(total.square(), student.queries, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return result


def batch_features(batch, width, seed, synthetic, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    embeds = [torch.randn(batch, width, generator=generator).requires_grad_(requires_grad) for _ in range(3)]
    return CLIPFeatures(*embeds[:2], torch.tensor(14.0), synthetic_text_embeds=embeds[2] if synthetic else None)


@pytest.mark.parametrize("name", [*SIMILARITY_LOSSES, "inter_image", "clip_kd", "mobileclip"])
def test_no_matrix_of_the_batch_is_ever_in_memory(monkeypatch, name):
    batch, width = 512, 8
    monkeypatch.setattr(similarity, "CHUNK_ELEMENTS", 4 * batch)
    losses = LossSum(name, CLIPDims(width), CLIPDims(width))
    with LargestTensor() as largest:
        student, teacher = batch_features(batch, width, 0, True, True), batch_features(batch, width, 1, True)
        losses(student, teacher)[0].backward()
    assert student.image_embeds.grad.abs().sum() > 0
    assert largest.elements < batch * batch / 8


@pytest.mark.parametrize("name", SIMILARITY_LOSSES)
def test_sum_gives_what_the_losses_give_alone(name):
    student, teacher = batch_features(BATCH, 6, 0, True, True), batch_features(BATCH, 8, 1, True)
    losses = LossSum({"clip": 0.5, "fd": 2.0, name: 3.0}, CLIPDims(6), CLIPDims(8))
    total, parts = losses(student, teacher)
    alone = {key: losses.terms[key](student, teacher) for key in losses.weights}
    expected = sum(weight * alone[key] for key, weight in losses.weights.items())
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parts, {key: value.detach() for key, value in alone.items()})
    inputs = [student.image_embeds, student.text_embeds]
    torch.testing.assert_close(gradients(total, inputs), gradients(expected, inputs))


def test_sum_is_computed_in_fp32_under_autocast():
    student, teacher = batch_features(BATCH, 6, 0, True), batch_features(BATCH, 8, 1, True)
    losses = LossSum(dict.fromkeys(SIMILARITY_LOSSES, 1.0), CLIPDims(6), CLIPDims(8))
    expected = losses(student, teacher)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(losses(student, teacher)[0], expected)


def test_generated_captions_are_added_where_the_batch_has_them():
    pair = batch_features(BATCH, 6, 0, True), batch_features(BATCH, 8, 1, True)
    real = [replace(x, synthetic_text_embeds=None) for x in pair]
    generated = [replace(x, text_embeds=x.synthetic_text_embeds, synthetic_text_embeds=None) for x in pair]
    for name, switch in (("clip", True), ("reinforced", True)):
        loss = LOSSES[name](CLIPDims(6), CLIPDims(8), synthetic=switch)
        without = LOSSES[name](CLIPDims(6), CLIPDims(8), synthetic=False)
        torch.testing.assert_close(loss(*pair), loss(*real) + loss(*generated))
        torch.testing.assert_close(without(*pair), loss(*real))


def test_fixed_scales_replace_the_models_own():
    student, teacher = batch_features(BATCH, 6, 0, False), batch_features(BATCH, 8, 1, False)
    scaled = [replace(x, logit_scale=torch.tensor(s)) for x, s in ((student, 20.0), (teacher, 30.0))]
    nameless = [replace(x, logit_scale=None) for x in (student, teacher)]
    fixed = {"logit_scale": 20.0, "teacher_logit_scale": 30.0}
    options = dict.fromkeys(["crd", "affinity", "reinforced"], fixed)
    options |= {"clip": {"logit_scale": 20.0}, "cross_kd": {"teacher_logit_scale": 30.0}}
    for name, values in options.items():
        with_options, own = (LOSSES[name](CLIPDims(6), CLIPDims(8), **o) for o in (values, {}))
        own.load_state_dict(with_options.state_dict())
        assert torch.equal(with_options(*nameless), own(*scaled))


def ensemble(first=8, second=5):
    members = batch_features(BATCH, first, 1, False), batch_features(BATCH, second, 2, False)
    return CLIPFeatures(members=members), CLIPDims(first, members=(CLIPDims(first), CLIPDims(second)))


def test_reinforced_looks_at_the_mean_of_the_teachers():
    student = batch_features(BATCH, 6, 0, False)
    teacher, dims = ensemble()
    value = LOSSES["reinforced"](CLIPDims(6), dims, teacher_logit_scale=[20.0, 30.0])(student, teacher)
    targets = tuple(
        Similarities(m.image, m.text, torch.tensor(t)) for m, t in zip(teacher.members, (20.0, 30.0), strict=True)
    )
    expected = written_down(Term(Similarities(student.image, student.text, student.logit_scale), targets))
    torch.testing.assert_close(value, expected)

    twice = LOSSES["reinforced"](CLIPDims(6), CLIPDims(8, members=(CLIPDims(8), CLIPDims(8))))
    single = teacher.members[0]
    torch.testing.assert_close(
        twice(student, CLIPFeatures(members=(single, single))),
        LOSSES["affinity"](CLIPDims(6), CLIPDims(8))(student, single),
    )


def test_one_scale_for_each_teacher():
    _, dims = ensemble()
    with pytest.raises(
        ValueError, match=r"\[100\.0\] of the loss 'reinforced' holds 1 values for 2 teachers.*one for each"
    ):
        LOSSES["reinforced"](CLIPDims(6), dims, teacher_logit_scale=[100.0])
    with pytest.raises(ValueError, match=r"holds 2 values for 1 teachers"):
        LOSSES["reinforced"](CLIPDims(6), CLIPDims(8), teacher_logit_scale=[100.0, 50.0])


def test_affinity_is_crd_plus_the_teachers_entropy():
    student, teacher = batch_features(BATCH, 6, 0, False, True), batch_features(BATCH, 8, 1, False)
    crd, affinity = (LOSSES[name](CLIPDims(6), CLIPDims(8))(student, teacher) for name in ("crd", "affinity"))
    target = teacher.logit_scale * teacher.image @ teacher.text.T
    entropy = sum(torch.special.entr(x.softmax(-1)).sum(-1).mean() / 2 for x in (target, target.T))
    torch.testing.assert_close(affinity, crd + entropy)
    torch.testing.assert_close(*(gradients(x, [student.image_embeds, student.text_embeds]) for x in (crd, affinity)))


@pytest.mark.parametrize("name", ["icl", "cross_kd", "afd"])
def test_published_learned_scale_is_its_logarithm(name):
    dims = CLIPDims(6), CLIPDims(8)
    published, right = LOSSES[name](*dims, upstream_compat=True), LOSSES[name](*dims)
    assert right.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    right.load_state_dict(published.state_dict())
    with torch.no_grad():
        published.logit_scale.copy_(right.logit_scale.exp())  # the factor itself, here
    pair = batch_features(BATCH, 6, 0, False), batch_features(BATCH, 8, 1, False)
    torch.testing.assert_close(published(*pair), right(*pair))
    published.logit_scale.data.fill_(200.0), right.logit_scale.data.fill_(200.0)
    published.clamp_scales_(), right.clamp_scales_()
    assert published.logit_scale.item() == 200.0
    assert right.logit_scale.exp().item() == pytest.approx(100.0)
