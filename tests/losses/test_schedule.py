"""Weights over a training: their values at shares of the steps, and a sum of losses that follows them."""

import math
from dataclasses import replace

import pytest
import torch
from loss_inputs import STUDENT, TEACHER, features, leaves
from torch.testing import assert_close

from hf_clip_kd.losses import LOSSES, LossSum
from hf_clip_kd.losses.features import CLIPFeatures, FeatureRequest
from hf_clip_kd.losses.schedule import phases, read_weight
from hf_clip_kd.losses.specification import specification

STEPPED, RAMPED = {0: 2.0, 0.5: 0.5}, {"ramp": {"0": 0, "0.25": 1, "1": "1e1"}}
# Weight and its value at shares of the steps, by hand.
WEIGHTS = {
    "number": (3, {0: 3, 0.7: 3, 1: 3}),
    "text": ("1e-1", {0.5: 0.1}),
    "steps": (STEPPED, {0: 2, 0.25: 2, 0.4999: 2, 0.5: 0.5, 1: 0.5}),
    "names of JSON": ({"0": 1, "0.3": 0, "0.6": 2}, {0.1: 1, 30 / 100: 0, 59 / 100: 0, 60 / 100: 2, 1: 2}),
    "ramp": (RAMPED, {0: 0, 0.1: 0.4, 0.25: 1, 0.5: 4, 1: 10}),
    "ramp that stays": ({"ramp": {0: 1, 0.5: 3}}, {0.25: 2, 0.5: 3, 0.9: 3}),
}


def ensemble(*weights):
    return replace(TEACHER, members=tuple(replace(TEACHER, weight=weight) for weight in weights))


@pytest.mark.parametrize(("weight", "values"), WEIGHTS.values(), ids=WEIGHTS)
def test_values_at_shares(weight, values):
    schedule = read_weight(weight)
    for share, value in values.items():
        assert schedule.at(share) == pytest.approx(value), share
    # The stored form is read as the same again.
    assert read_weight(schedule.plain) == schedule and read_weight(schedule) is schedule
    assert schedule.scaled(3).at(0.25) == pytest.approx(3 * schedule.at(0.25))


def test_a_change_falls_on_the_same_step_whatever_the_rounding():
    for steps in (7, 100, 999):
        for change in range(1, steps):
            schedule = read_weight({0: 1, change / steps: 2})
            assert [schedule.at(step / steps) for step in (change - 1, change)] == [1, 2]


def test_forms_for_records_and_readers():
    plain = [read_weight(weight).plain for weight in (2, {0: 1, 0.5: 1.0}, STEPPED, {"ramp": STEPPED})]
    assert plain == [2.0, 1.0, {0.0: 2.0, 0.5: 0.5}, {"ramp": {0.0: 2.0, 0.5: 0.5}}]
    assert [str(read_weight(weight)) for weight in (0.25, STEPPED, {"ramp": STEPPED})] == [
        "0.25",
        "2 at 0 %, 0.5 at 50 % of the steps",
        "2 at 0 %, 0.5 at 50 % of the steps, linear between",
    ]
    assert phases([read_weight(1), read_weight(STEPPED)]) == [0.0, 0.5]
    assert phases([read_weight({"ramp": {0: 1, 1: 0}})]) == [0.0, 0.5, 1.0]


BAD_WEIGHTS = {
    "no number at a share": ({0: 1, 0.5: "much"}, r"weight .* of the loss 'clip' .*finite number of at least 0"),
    "negative at a share": ({0: 1, 0.5: -1}, "at least 0"),
    "a number too large": ({0: 10**400}, "finite number of at least 0"),
    "no share": ({0: 1, "half": 2}, "finite number"),
    "late": ({0.1: 1}, "shares must begin at 0, differ, and be at most 1"),
    "beyond the end": ({0: 1, 1.5: 2}, "at most 1"),
    "twice": ({0: 1, "0.5": 2, 0.5: 3}, "differ"),
    "empty": ({}, "begin at 0"),
    "empty ramp": ({"ramp": {}}, "begin at 0"),
    "ramp beside points": ({0: 1, "ramp": {0: 1}}, r"at least 0.*`\{0: 2.0, 0.5: 0.5\}`.*losses=\{'clip': 1.0\}"),
}


@pytest.mark.parametrize(("weight", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        LossSum({"clip": {"weight": weight}}, STUDENT)


# ---- The sum of losses ----


def test_the_sum_has_the_weights_of_its_share(monkeypatch):
    losses = {"clip": 1, "fd": {"weight": {0: 4, 0.5: 0}}, "crd": {"weight": {"ramp": {0: 0, 1: 2}}}}
    module = LossSum(losses, STUDENT, TEACHER)
    student, teacher = features(STUDENT, 1), features(TEACHER, 2)
    values = {name: module.terms[name](student, teacher) for name in losses}
    for share, weights in {0.0: (1, 4, 0), 0.25: (1, 4, 0.5), 0.5: (1, 0, 1), 1.0: (1, 0, 2)}.items():
        module.set_share(share)
        total, parts = module(student, teacher)
        assert module.weights == dict(zip(losses, weights, strict=True))
        assert_close(total, sum(weight * values[name] for name, weight in module.weights.items()))
        assert list(parts) == [name for name, weight in module.weights.items() if weight]
        assert module.changing_weights() == {"fd": weights[1], "crd": weights[2]}
    monkeypatch.setattr(module.terms["fd"], "compute", None)
    module(student, teacher)  # A loss at 0 is not computed.


def test_a_constant_objective_is_what_it_was():
    module = LossSum({"clip": 1, "fd": 4}, STUDENT, TEACHER)
    weights = module.weights
    module.set_share(0.5)
    assert module.weights is weights and module.phases == [0.0] and module.changing_weights() == {}


def test_a_shorthand_changes_as_a_whole():
    weights = {"clip_kd": {"weight": {0: 0, 0.5: 2}}, "fd": 1.0}
    found = {name: weight.plain for name, (_, weight, _) in specification(weights).items()}
    later = {0.0: 0.0, 0.5: 2.0}
    assert found == {"clip": later, "crd": later, "icl": later, "fd": 1.0}
    assert specification({"clip_kd": {"weight": {0: 0, 0.5: 2}}})["fd"][1].plain == {0.0: 0.0, 0.5: 8.0}


def test_the_same_loss_twice():
    losses = {"relation": {"weight": {0: 1, 0.5: 0}}, "relation/later": {"weight": {0: 0, 0.5: 1}}, "fd/own": 2.0}
    module = LossSum(losses, STUDENT, TEACHER)
    assert [type(term) for term in module.terms.values()] == [*[LOSSES["relation"]] * 2, LOSSES["fd"]]
    student, teacher = features(STUDENT, 1), features(TEACHER, 2)
    first = module(student, teacher)[1]
    module.set_share(0.75)
    second = module(student, teacher)[1]
    assert list(first) == ["relation", "fd/own"] and list(second) == ["relation/later", "fd/own"]
    assert_close(first["relation"], second["relation/later"])
    assert "terms.fd/own.image_proj.weight" in module.state_dict()


def test_only_what_is_on_is_asked_for():
    losses = {"clip": 1, "patch": {"weight": {0: 1, 0.5: 0}}, "mfd": {"weight": {0: 0, 0.5: 1}}}
    module = LossSum(losses, STUDENT, TEACHER)
    assert (module.request.layer, module.request.mask_ratio) == (-2, None)
    module.set_share(0.5)
    assert module.request == FeatureRequest(mask_ratio=0.75)

    module = LossSum({"clip": 1, "crd": {"weight": {0: 0, 0.5: 1}}}, STUDENT, TEACHER)
    assert module.asked() == set() and module.needs_teacher
    assert module(features(STUDENT, 1), None)[0].isfinite()
    module.set_share(0.5)
    assert module.asked() == {0}


# ---- A cascade of teachers ----

CASCADE = ensemble({0: 1, 0.5: 0}, {0: 0, 0.25: 1})


@pytest.mark.parametrize("name", ["fd", "icl", "reinforced", "patch"])
def test_a_teacher_that_is_off_is_not_read(name):
    """The loss of a phase with a single teacher is that of a run with this teacher."""
    module = LossSum({name: {"weight": 1.0}}, STUDENT, CASCADE)
    student, members = leaves(features(STUDENT, 1)), (features(TEACHER, 2), features(TEACHER, 3))
    asked = {}
    for share in (0.0, 0.25, 0.5):
        module.set_share(share)
        asked[share] = module.asked()
    assert asked == {0.0: {0}, 0.25: {0, 1}, 0.5: {1}}
    alone = LossSum({name: {"weight": 1.0}}, STUDENT, TEACHER)
    for share, number in ((0.0, 0), (0.5, 1)):
        module.set_share(share)
        if name != "reinforced":
            alone.terms[name].load_state_dict(module.terms[name].losses[number].state_dict())
        given = [CLIPFeatures(), CLIPFeatures()]
        given[number] = members[number]
        total, _ = module(student, CLIPFeatures(members=tuple(given)))
        assert_close(total, alone(student, members[number])[0])


def test_teachers_that_overlap_are_weighed():
    """`reinforced` has the weighted mean of the softmaxes, and `fd` begins to measure a teacher when it comes."""
    teacher = ensemble({"ramp": {0: 4, 1: 0}}, {"ramp": {0: 0, 1: 4}})
    student, members = leaves(features(STUDENT, 1)), (features(TEACHER, 2), features(TEACHER, 3))
    mixed = LossSum({"reinforced": {"weight": 1.0, "synthetic": False}}, STUDENT, teacher)
    mixed.set_share(0.25)
    assert mixed.terms["reinforced"].shares == (0.75, 0.25)

    fd = LossSum({"fd": 1.0}, STUDENT, teacher)
    term = fd.terms["fd"]
    fd(student, CLIPFeatures(members=members))
    assert term.steps.tolist() == [0, 0]  # There is nothing to balance with a single teacher.
    fd.set_share(0.5)
    fd.eval()
    assert_close(
        fd(student, CLIPFeatures(members=members))[0], sum(x(student, m) for x, m in pairs(term, members)) / 2
    )
    fd.train()
    for _ in range(2):
        fd(student, CLIPFeatures(members=members))
    values = [loss(student, member) for loss, member in pairs(term, members)]
    pulls = torch.stack([pull(value, student) for value in values])
    assert term.steps.tolist() == [2, 2]
    assert_close(term.pulls, pulls)
    assert_close(term.shares() * pulls, pulls.mean().expand(2) / 2)


def pairs(term, members):
    return zip(term.losses, members, strict=True)


def pull(value, student):
    gradients = torch.autograd.grad(value, [student.image_embeds, student.text_embeds], retain_graph=True)
    return math.sqrt(sum(gradient.square().sum() for gradient in gradients)) * torch.ones(())


def test_phases_without_a_loss_or_a_teacher():
    with pytest.raises(ValueError, match="leaves nothing to train on at 50 % of the steps.*Give another loss"):
        LossSum({"clip": {"weight": {0: 1, 0.5: 0, 0.75: 1}}}, STUDENT)
    with pytest.raises(
        ValueError, match=r"losses \['fd'\] have no teacher at 0 % of the steps.*\[0.0, 0.0\].*weight 0"
    ):
        LossSum({"clip": 1, "fd": 1}, STUDENT, ensemble({0: 0, 0.5: 1}, {0: 0, 0.5: 1}))
    blind = replace(TEACHER, has_text=False, weight={0: 1, 0.5: 0})
    mixed = replace(TEACHER, members=(blind, replace(TEACHER, weight={0: 0, 0.5: 1})))
    with pytest.raises(ValueError, match=r"losses \['crd'\] have no teacher at 0 %"):
        LossSum({"crd": 1, "relation": 1}, STUDENT, mixed)
    LossSum({"crd": {"weight": {0: 0, 0.5: 1}}, "relation": 1}, STUDENT, mixed)


def test_heads_at_rest_have_no_gradient_or_zeros():
    module = LossSum({"clip": 1, "fd": {"weight": {0: 0, 0.5: 1}}}, STUDENT, TEACHER)
    for zeros in (False, True):
        module.zeros_at_rest = zeros
        module(leaves(features(STUDENT, 1)), features(TEACHER, 2))[0].backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        assert len(gradients) == 4
        assert all((gradient is None) if not zeros else not gradient.any() for gradient in gradients)
