"""Class tokens and pooled embeddings as partners of patches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import PAIRS, STUDENT, TEACHER, build, features, layered

WIDER = PAIRS["wider teacher"]


def pair():
    return features(STUDENT, 1, torch.float64), features(TEACHER, 2, torch.float64)


@pytest.mark.parametrize("summary", ["class_token", "image_embeds"])
@pytest.mark.parametrize("statistics", ["batch", "none", 3])
def test_summary_is_the_cosine_of_the_standardised_partner(summary, statistics):
    student, teacher = pair()
    options = {"hidden_dim": 5, "statistics": statistics}
    loss = build("patch", WIDER, summary=summary, summary_weight=0.7, **options).double()
    plain = build("patch", WIDER, **options).double()
    plain.load_state_dict({k: v for k, v in loss.state_dict().items() if not k.startswith("summary")})
    own, target = loss.summary.proj(getattr(student, summary)), getattr(teacher, summary)
    if statistics != "none":
        target = (target - target.mean(0)) / target.std(0, correction=0)
    rows = [1 - own[i] @ target[i] / (own[i].norm() * target[i].norm()) for i in range(len(own))]
    expected = plain.values(student, teacher) + 0.7 * torch.stack(rows).mean()
    torch.testing.assert_close(loss.values(student, teacher), expected, rtol=1e-5, atol=1e-6)
    wanted = {"class_token": (14, 10), "image_embeds": (24, 16)}[summary]
    assert (loss.summary.proj[3].weight.shape[0], loss.summary.proj[0].weight.shape[1]) == wanted


def test_summary_between_equal_widths_has_no_head():
    loss = build("patch", PAIRS["same width"], summary="image_embeds", statistics="none")
    student, teacher = features(STUDENT, 1), features(STUDENT, 2)
    expected = 1 - F.cosine_similarity(student.image_embeds, teacher.image_embeds).mean()
    torch.testing.assert_close(loss.summary(student, teacher), expected)
    assert not list(loss.parameters())


def test_class_tokens_are_those_of_the_first_pair():
    layers, targets = {-4: pair()[0], -2: features(STUDENT, 3, torch.float64)}, {-1: pair()[1], -9: pair()[1]}
    dims = STUDENT.with_layers({-4: 10, -2: 10}), TEACHER.with_layers({-1: 14, -9: 14})
    loss = build("patch", dims, pairs=[[-2, -1], [-4, -9]], summary="class_token").double()
    found = loss(layered(layers), layered(targets)) - loss.summary(layers[-2], targets[-1])
    loss.summary = None
    torch.testing.assert_close(found, loss(layered(layers), layered(targets)))


def test_gradient_reaches_the_partner_and_its_head():
    student, teacher = pair()
    student.class_token.requires_grad_()
    loss = build("patch", WIDER, summary="class_token").double()
    loss(student, teacher).backward()
    assert student.class_token.grad.abs().sum() > 0 and loss.summary.proj.weight.grad.abs().sum() > 0


def test_a_partner_that_is_missing():
    student, teacher = pair()
    loss = build("patch", WIDER, summary="class_token").double()
    lacking = {
        "student": (replace(student, class_token=None), teacher),
        "teacher": (student, replace(teacher, class_token=None)),
    }
    for owner, values in lacking.items():
        with pytest.raises(ValueError, match=rf"The {owner}'s features have no `class_token`.*requested\(losses\)"):
            loss(*values)
    with pytest.raises(ValueError, match=r"student's `class_token` are 3 wide\. .* width 10\..*token_dim=3"):
        loss(replace(student, class_token=torch.randn(6, 3)), teacher)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"summary": "mean"}, r"summary='mean' is no summary.*'class_token', 'image_embeds' and None"),
        ({"summary": "class_token", "summary_weight": 0}, "summary_weight=0 is no weight.*finite number above 0"),
        ({"summary": "class_token", "summary_weight": 10**400}, "finite number above 0"),
        ({"summary": "class_token", "summary_weight": "1"}, "summary_weight='1' is no weight"),
        (
            {"summary": "class_token", "teacher_layer": "projector"},
            "no partner at teacher_layer='projector', .*'image_embeds', and a layer of the tower.*'pairs'",
        ),
        ({"grid": "finer"}, r"grid='finer' is no grid of the loss 'patch'.*'larger'\].*'grid': 'larger'"),
        ({"interpolation": "nearest"}, r"interpolation='nearest' is no interpolation.*'bicubic'\]"),
    ],
)
def test_options_that_are_not_allowed(options, match):
    with pytest.raises(ValueError, match=match):
        build("patch", WIDER, **options)
