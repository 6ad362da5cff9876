"""The forms of relations on softmaxes, row by row; `test_chunks.py` has the form of squares."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import BATCH, PAIRS, STUDENT, TEACHER, build, features
from torch.distributions import Categorical, kl_divergence

F64 = torch.float64
WIDER = PAIRS["wider teacher"]


def pair():
    return features(STUDENT, 1, F64), features(TEACHER, 2, F64)


def divergence(own, target, temperature):
    """Mean over the rows of the divergence of their softmaxes, with whole matrices."""
    p, q = (F.cosine_similarity(x[:, None], x[None], dim=-1) / temperature for x in (own, target))
    return kl_divergence(Categorical(logits=q), Categorical(logits=p)).mean()


def test_rows_of_a_batch():
    student, teacher = pair()
    loss = build("relation", WIDER, form="kl", temperature=0.3)
    expected = [
        divergence(getattr(student, name), getattr(teacher, name), 0.3) for name in ("image_embeds", "text_embeds")
    ]
    torch.testing.assert_close(loss(student, teacher), sum(expected) / 2)
    assert not list(loss.parameters())
    torch.testing.assert_close(loss(student, replace(teacher, text_embeds=None)), expected[0])


@pytest.mark.parametrize("grid", ["student", "teacher"])
@pytest.mark.parametrize("head", [False, True])
def test_rows_of_tokens(grid, head):
    student, teacher = pair()
    loss = build("relation", WIDER, level="tokens", form="kl", temperature=0.3, head=head, grid=grid).double()
    tokens = student.image_tokens
    if head:
        tokens = tokens @ loss.token_proj.weight.T + loss.token_proj.bias
    maps = [tokens.mT.unflatten(2, (2, 3)), teacher.image_tokens.mT.unflatten(2, (3, 4))]
    if grid == "teacher":  # The head comes first, as in lightly-train.
        maps[0] = F.interpolate(maps[0], (3, 4), mode="bilinear", align_corners=False)
    else:
        maps[1] = F.interpolate(maps[1], (2, 3), mode="bilinear", align_corners=False, antialias=True)
    expected = [divergence(own.flatten(1).T, target.flatten(1).T, 0.3) for own, target in zip(*maps, strict=True)]
    torch.testing.assert_close(loss.values(student, teacher), torch.stack(expected))


def test_rows_of_the_teachers_own_tokens_are_perfect():
    teacher = features(STUDENT, 2, F64)
    rotation = torch.linalg.qr(torch.randn(10, 10, dtype=F64, generator=torch.Generator().manual_seed(0)))[0]
    rotated = replace(teacher, image_tokens=5 * teacher.image_tokens @ rotation)
    values = build("relation", PAIRS["same width"], level="tokens", form="kl").values(rotated, teacher)
    torch.testing.assert_close(values, torch.zeros(BATCH, dtype=F64))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"form": "cosine"}, r"form='cosine' is no form.*Allowed are \['square', 'kl'\].*'form': 'kl'"),
        ({"temperature": 0}, r"temperature=0 .*'relation'.*above 0.*0\.07"),
        ({"grid": "finer"}, r"grid='finer' is no grid of the loss 'relation'.*\['student', 'teacher', 'larger'\]"),
        ({"head": True}, r"head=True at level='batch'.*needs level='tokens'.*'head': True"),
    ],
)
def test_options_that_are_not_allowed(options, match):
    with pytest.raises(ValueError, match=match):
        build("relation", WIDER, **options)
