"""One loss from several teachers: heads of their own, weights, and a balance in which none dominates."""

import logging
from dataclasses import replace

import pytest
import torch
from loss_inputs import STUDENT, TEACHER, features, leaves
from torch.testing import assert_close

from hf_clip_kd.losses import LOSSES, EnsembleLoss, LossSum
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures

BLIND = replace(TEACHER, has_text=False)


def ensemble(*members, weights=None):
    members = [replace(m, weight=w) for m, w in zip(members, weights or [1.0] * len(members), strict=True)]
    return replace(members[0], has_text=any(m.has_text for m in members), members=tuple(members))


def gradient_norm(value, student):
    gradients = torch.autograd.grad(value, list(student.tensors().values()), allow_unused=True, retain_graph=True)
    rows = [gradient for gradient in gradients if gradient is not None and gradient.ndim]
    return torch.stack([gradient.square().sum() for gradient in rows]).sum().sqrt()


def built(name, teacher, **options):
    torch.manual_seed(0)
    return LossSum({name: {"weight": 1.0, **options}}, STUDENT, teacher)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].needs_teacher])
def test_two_of_the_same_teacher_are_one(name):
    """Value and gradient by the student are those of the one teacher, once the heads are the same."""
    single, double = built(name, TEACHER), built(name, ensemble(TEACHER, TEACHER))
    if name != "reinforced":
        for loss in double.terms[name].losses:
            loss.load_state_dict(single.terms[name].state_dict())
    student, teacher = leaves(features(STUDENT, 1)), features(TEACHER, 2)
    expected, _ = single(student, teacher)
    value, _ = double(student, CLIPFeatures(members=(teacher, teacher)))
    assert_close(value, expected)
    wanted = [x for x in student.tensors().values() if x.ndim]
    for got, right in zip(
        *(torch.autograd.grad(x, wanted, allow_unused=True, retain_graph=True) for x in (value, expected)), strict=True
    ):
        assert (got is None) == (right is None)
        if got is not None:
            assert_close(got, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["crd", "fd", "relation", "patch", "icl"])
def test_every_teacher_pulls_by_its_weight(name):
    """The norms of the members' gradients have the ratio of the weights, whatever the losses' own sizes."""
    loss = built(name, ensemble(TEACHER, STUDENT, weights=[3.0, 1.0]))
    student = leaves(features(STUDENT, 1))
    # A cold teacher and a hot one: their losses and gradients differ widely.
    members = features(TEACHER, 2, scale=60.0), features(STUDENT, 3, scale=3.0)
    loss(student, CLIPFeatures(members=members))
    term = loss.terms[name]
    values = [member_loss(student, member) for member_loss, member in zip(term.losses, members, strict=True)]
    raw = torch.stack([gradient_norm(value, student) for value in values])
    assert max(raw / raw.flip(0)) > 1.01
    pulls = term.shares() * raw
    assert_close(pulls[0] / pulls[1], torch.tensor(3.0))
    assert_close(pulls.sum(), (torch.tensor([0.75, 0.25]) * raw).sum())  # The plain weighted mean has the same pull.


def test_a_teacher_does_not_gain_by_a_larger_loss(monkeypatch):
    """A hundredfold loss of one member leaves all gradients as they are, up to their common size."""
    members = features(TEACHER, 2), features(TEACHER, 3)
    directions = []
    for factor in (1.0, 100.0):
        student = leaves(features(STUDENT, 1))
        loss = built("fd", ensemble(TEACHER, TEACHER))
        louder = loss.terms["fd"].losses[0]
        compute = louder.compute
        monkeypatch.setattr(louder, "compute", lambda *x, compute=compute, factor=factor: factor * compute(*x))
        value, _ = loss(student, CLIPFeatures(members=members))
        (gradient,) = torch.autograd.grad(value, [student.image_embeds])
        directions.append(gradient / gradient.norm())
    assert_close(*directions)


def test_balance_is_a_running_mean_of_training_alone():
    loss = built("fd", ensemble(TEACHER, TEACHER))
    term = loss.terms["fd"]
    assert_close(term.shares(), torch.tensor([0.5, 0.5]))
    seen = []
    for seed in range(3):
        student = leaves(features(STUDENT, seed))
        members = features(TEACHER, 10 + seed), features(TEACHER, 20 + seed)
        loss(student, CLIPFeatures(members=members))
        values = [member_loss(student, member) for member_loss, member in zip(term.losses, members, strict=True)]
        seen.append(torch.stack([gradient_norm(value, student) for value in values]))
        assert_close(term.pulls, torch.stack(seen).mean(dim=0))
    before = term.pulls.clone()
    with torch.no_grad():
        loss(student, CLIPFeatures(members=members))
    loss.eval()
    loss(student, CLIPFeatures(members=members))
    assert torch.equal(term.pulls, before)

    again = built("fd", ensemble(TEACHER, TEACHER))
    again.load_state_dict(loss.state_dict())
    assert_close(again.terms["fd"].shares(), term.shares())


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, {0: 1.0, 0.5: 2.0}]], ids=["constant", "changing"])
def test_gradients_that_are_not_finite_are_not_measured(weights):
    """They come with a loss scale of fp16 that is too large, and a running mean would never lose them."""
    loss = built("fd", ensemble(TEACHER, TEACHER, weights=weights))
    term = loss.terms["fd"]
    student, good, bad = leaves(features(STUDENT, 1)), features(TEACHER, 2), features(TEACHER, 3)
    bad.image_embeds[0] = float("nan")
    loss(student, CLIPFeatures(members=(good, bad)))
    assert term.pulls.tolist() == [0, 0] and not term.steps.any()
    loss(student, CLIPFeatures(members=(good, good)))
    before = term.pulls.clone()
    loss(student, CLIPFeatures(members=(good, bad)))
    assert torch.equal(term.pulls, before) and before.min() > 0 and (term.steps == 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_engine_that_casts_the_module_does_not_stop_the_running_mean(dtype):
    """A hundredth of a small difference is rounded away in halves."""
    loss = built("fd", ensemble(TEACHER, TEACHER))
    term = loss.terms["fd"]
    loss.to(dtype)
    student = leaves(features(STUDENT, 1))
    members = features(TEACHER, 2), features(TEACHER, 3)
    loss(student, CLIPFeatures(members=members))
    measured = term.pulls.clone()
    term.steps.fill_(1000), term.pulls.mul_(1.1)
    loss(student, CLIPFeatures(members=members))
    assert_close(term.pulls, (1.1 * measured).lerp(measured, torch.tensor(0.01)))
    assert term.pulls.dtype == term.weights.dtype == torch.float32


def test_a_teacher_that_agrees_is_not_amplified_without_end():
    loss = built("relation", ensemble(STUDENT, TEACHER))
    student = leaves(features(STUDENT, 1))
    itself = features(STUDENT, 1)
    value, _ = loss(student, CLIPFeatures(members=(itself, features(TEACHER, 2))))
    (gradient,) = torch.autograd.grad(value, [student.image_embeds], retain_graph=True)
    assert torch.isfinite(gradient).all()
    shares = loss.terms["relation"].shares()
    assert_close(shares[0] / shares[1], torch.tensor(1000.0))
    nothing, _ = built("relation", ensemble(STUDENT, STUDENT))(student, CLIPFeatures(members=(itself, itself)))
    assert nothing.item() == pytest.approx(0, abs=1e-10)


def test_processes_come_to_the_same_shares():
    """Each sees the tokens of its own images; what they measure is brought together."""
    student = leaves(features(STUDENT, 1))
    members = features(TEACHER, 2), features(TEACHER, 3)
    terms = []
    for others in ([1.0, 1.0], [9.0, 1.0]):
        loss = built("patch", ensemble(TEACHER, TEACHER))

        def gather(rows, others=others):
            return torch.cat([rows, rows * torch.tensor(others) if rows.ndim == 2 else rows])

        loss(student, CLIPFeatures(members=members), gather)
        terms.append(loss.terms["patch"])
    assert_close(terms[1].pulls[0], terms[0].pulls[0] * 5**0.5)
    assert_close(terms[1].pulls[1], terms[0].pulls[1])


def test_weights_of_the_mean_of_all():
    """`reinforced` weighs opinions: the target is the weighted mean of the softmaxes, over rows and columns."""
    student, members = features(STUDENT, 1), (features(TEACHER, 2), features(STUDENT, 3))
    loss = built("reinforced", ensemble(TEACHER, STUDENT, weights=[3.0, 1.0]), synthetic=False)
    logits = student.logit_scale * student.image @ student.text.T
    expected = 0
    for dim in (0, 1):
        targets = [(m.logit_scale * m.image @ m.text.T).softmax(dim) for m in members]
        target = 0.75 * targets[0] + 0.25 * targets[1]
        expected = expected - (target * logits.log_softmax(dim)).sum(dim).mean() / 2
    assert_close(loss(student, CLIPFeatures(members=members))[0], expected)


def test_teachers_without_text_serve_what_reads_none(caplog):
    student, teachers = leaves(features(STUDENT, 1)), (features(TEACHER, 2), features(TEACHER, 3))
    seeing = replace(teachers[1], text_embeds=None, synthetic_text_embeds=None)
    losses = {"crd": 1.0, "reinforced": 1.0, "patch": 1.0, "relation": 1.0}
    with caplog.at_level(logging.INFO, logger="hf_clip_kd"):
        loss = LossSum(losses, STUDENT, ensemble(TEACHER, BLIND))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "Teacher 1 has no texts. It serves ['patch', 'relation'], not ['crd', 'reinforced']."
    serving = {name: term.serving for name, term in loss.terms.items()}
    assert serving == {"crd": [0], "reinforced": [0], "patch": [0, 1], "relation": [0, 1]}
    _, parts = loss(student, CLIPFeatures(members=(teachers[0], seeing)))
    alone = LossSum({"crd": 1.0, "reinforced": 1.0}, STUDENT, TEACHER)(student, teachers[0])[1]
    for name in alone:
        assert_close(parts[name], alone[name])


def test_teachers_that_teach_nothing():
    with pytest.raises(ValueError, match=r"Teacher 1 of the ensemble has no text tower.*\['crd', 'fd'\].*'relation'"):
        LossSum({"crd": 1.0, "fd": 1.0, "clip": 1.0}, STUDENT, ensemble(TEACHER, BLIND))
    with pytest.raises(ValueError, match=r"losses \['crd'\] compare .* can serve \['patch'\]"):
        LossSum({"crd": 1.0, "patch": 1.0}, STUDENT, ensemble(BLIND, BLIND))
    with pytest.raises(ValueError, match=r"losses \['crd'\] compare .* can serve \['patch'\]"):
        LossSum({"crd": 1.0, "patch": 1.0}, STUDENT, BLIND)


def test_learned_scales_of_each():
    loss = LossSum({"icl": 1.0, "afd": {"upstream_compat": True}}, STUDENT, ensemble(TEACHER, TEACHER))
    for term in loss.terms.values():
        assert isinstance(term, EnsembleLoss)
        for member in term.losses:
            member.logit_scale.data.fill_(9.0)
    loss.clamp_scales_()
    icl, afd = ([member.logit_scale for member in loss.terms[name].losses] for name in ("icl", "afd"))
    assert [scale.exp().item() for scale in icl] == pytest.approx([100.0, 100.0])
    assert [scale.item() for scale in afd] == [9.0, 9.0]  # The parameter is the factor itself there.


def test_task_losses_do_not_look_at_teachers():
    assert not isinstance(built("clip", ensemble(TEACHER, TEACHER)).terms["clip"], EnsembleLoss)
    assert not isinstance(LossSum({"clip": 1.0}, CLIPDims(16)).terms["clip"], EnsembleLoss)
