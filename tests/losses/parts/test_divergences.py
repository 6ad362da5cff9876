"""Divergences, against numbers worked out by hand."""

import math

import pytest
import torch

from hf_clip_kd.losses.parts.divergences import dbild, forward_kl, knee, reverse_kl


def logits(*probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


P, Q = logits(0.5, 0.25, 0.25), logits(0.25, 0.25, 0.5)


def test_kl_of_given_distributions():
    # 0.5 ln 2 + 0 - 0.25 ln 2
    assert forward_kl(P, Q).item() == pytest.approx(0.25 * math.log(2))
    uneven = logits(0.9, 0.05, 0.05)
    forward = 0.9 * math.log(0.9 / 0.25) + 0.05 * math.log(0.05 / 0.25) + 0.05 * math.log(0.05 / 0.5)
    reverse = 0.25 * math.log(0.25 / 0.9) + 0.25 * math.log(0.25 / 0.05) + 0.5 * math.log(0.5 / 0.05)
    assert forward_kl(uneven, Q).item() == pytest.approx(forward)
    assert reverse_kl(uneven, Q).item() == pytest.approx(reverse)


def test_temperature_softens_both_and_keeps_the_size_of_the_gradient():
    # Square roots of (4, 1, 1) and (1, 1, 4), normalised: (2, 1, 1) / 4 and (1, 1, 2) / 4.
    p, q = logits(4 / 6, 1 / 6, 1 / 6), logits(1 / 6, 1 / 6, 4 / 6)
    assert forward_kl(p, q, 2.0).item() == pytest.approx(4 * 0.25 * math.log(2))
    gradients = []
    for temperature in (1.0, 50.0):
        student = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        forward_kl(0.01 * p, student, temperature).sum().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0)


def test_knee_is_the_place_farthest_below_the_line():
    values = torch.tensor([[10.0, 9.0, 1.0, 0.5, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    # Heights 1, 0.9, 0.1, 0.05, 0 against 1, 0.75, 0.5, 0.25, 0: the third. On a line there is none, so two are kept.
    assert knee(values).tolist() == [[3], [2], [2]]


def test_dbild_of_a_hand_made_case():
    # Sorted teacher 8 7 1 0 0: the knee keeps 3 of 5, tokens 0 1 2. Sorted student 8 7 1 0 0 keeps tokens 4 3 2.
    teacher = torch.tensor([[8.0, 7.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0, 1.0, 7.0, 8.0]], dtype=torch.float64)

    def on(ids):
        q, p = ([math.exp(x[0, i]) for i in ids] for x in (student, teacher))
        return sum(a / sum(q) * math.log((a / sum(q)) / (b / sum(p))) for a, b in zip(q, p, strict=True))

    assert dbild(teacher, student).item() == pytest.approx(on([0, 1, 2]) + on([4, 3, 2]))
    halved = dbild(2 * teacher, 2 * student, 2.0)
    assert halved.item() == pytest.approx(4 * dbild(teacher, student).item())


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl, dbild])
def test_is_zero_at_the_teacher_and_has_a_finite_gradient(divergence):
    teacher = 5 * torch.randn(6, 100, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    value = divergence(teacher, student, 3.0)
    assert value.shape == (6,) and value.abs().max() < 1e-5
    divergence(teacher, student.flip(1), 3.0).sum().backward()
    assert torch.isfinite(student.grad).all() and student.grad.abs().sum() > 0
