"""Linear CKA: against the U-statistic, the direct formula over n x n kernels, closed forms and a hand example."""

import itertools

import numpy as np
import pytest
import torch

from hf_clip_kd.evaluation.representation import MinibatchCKA, linear_cka
from hf_clip_kd.losses.cka import alignment as biased_cka


def u_statistic(k, l):  # noqa: E741
    """Unbiased HSIC by its definition, the mean over all ordered quadruples of distinct samples."""
    terms = [
        k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q]
        for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return np.mean(terms)


def u_centred(k):
    """Székely and Rizzo's U-centring, of which the unbiased HSIC is the mean product."""
    n = len(k)
    k = k - np.diag(np.diag(k))
    rows = k.sum(axis=1)
    centred = k - rows[:, None] / (n - 2) - rows[None] / (n - 2) + k.sum() / ((n - 1) * (n - 2))
    return centred - np.diag(np.diag(centred))


def direct_cka(x, y):
    k, l = u_centred(x @ x.T), u_centred(y @ y.T)  # noqa: E741
    return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())


def related(samples, *widths, seed=0):
    """float64 views of the same few hidden causes, with noise and an offset."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(samples, 3))
    return [hidden @ rng.normal(size=(3, width)) + rng.normal(size=(samples, width)) + 2 for width in widths]


def one_batch(x, y):
    cka = MinibatchCKA()
    cka.update([x], [y])
    return cka.compute().item()


both_forms = pytest.mark.parametrize("form", [linear_cka, one_batch])


@both_forms
def test_hand_example(form):
    """K has 1 at (1,2) and (3,4), L at (1,3) and (2,4), -1 elsewhere: HSIC -4/3 over 8/3."""
    x, y = torch.tensor([[1.0], [1], [-1], [-1]]), torch.tensor([[1.0], [-1], [1], [-1]])
    assert form(x, y) == pytest.approx(-0.5, abs=1e-12)


@both_forms
@pytest.mark.parametrize(("samples", "widths"), [(4, (2, 3)), (30, (5, 5)), (40, (64, 3)), (300, (20, 100))])
def test_direct_formula(form, samples, widths):
    x, y = related(samples, *widths)
    assert form(torch.tensor(x), torch.tensor(y)) == pytest.approx(direct_cka(x, y), abs=1e-8)


@both_forms
def test_definition(form):
    x, y = related(7, 4, 6)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    expected = u_statistic(k, l) / np.sqrt(u_statistic(k, k) * u_statistic(l, l))
    assert form(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, abs=1e-8)


@both_forms
@pytest.mark.parametrize("change", ["rotation", "scale", "shift", "order"])
def test_invariance(form, change):
    x, y = map(torch.tensor, related(50, 6, 9))
    rotation = torch.tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0])
    order = torch.randperm(50)
    expected = form(x, y)
    changed = {
        "rotation": (x @ rotation, y),
        "scale": (17 * x, y / 3),
        "shift": (x + 1000 * torch.randn(6, dtype=torch.float64), y),
        "order": (x[order], y[order]),
    }[change]
    assert form(*changed) == pytest.approx(expected, abs=1e-8)
    assert form(x, x @ rotation * 3) == pytest.approx(1, abs=1e-8)


def test_not_invariant_to_any_linear_map():
    x, y = map(torch.tensor, related(50, 6, 9))
    assert abs(linear_cka(x * torch.tensor([100.0, 1, 1, 1, 1, 1]), y) - linear_cka(x, y)) > 0.02


@both_forms
def test_unrelated_is_zero_where_the_biased_estimate_is_not(form):
    x, y = torch.randn(100, 500), torch.randn(100, 500)
    assert abs(form(x, y)) < 0.1
    assert biased_cka(x, y) > 0.8


def test_batches_tend_to_the_whole():
    x, y = map(torch.tensor, related(6000, 10, 20))
    cka = MinibatchCKA()
    for some_x, some_y in zip(x.split(50), y.split(50), strict=True):
        cka.update([some_x], [some_y])
    assert cka.compute().item() == pytest.approx(linear_cka(x, y), abs=0.005)


def test_batches_are_averaged_before_the_ratio():
    """The expected value is computed by hand: HSICs of batches of 10 and 30 samples, weighted by their sizes."""
    x, y = related(40, 3, 4)
    cka, expected = MinibatchCKA(), np.zeros(3)
    for part in (slice(0, 10), slice(10, 40)):
        n = part.stop - part.start
        k, l = u_centred(x[part] @ x[part].T), u_centred(y[part] @ y[part].T)  # noqa: E741
        expected += np.array([(k * l).sum(), (k * k).sum(), (l * l).sum()]) / (n - 3)
        cka.update([torch.tensor(x[part])], [torch.tensor(y[part])])
    cka.update([torch.ones(3, 3)], [torch.ones(3, 4)])  # too few for an estimate
    assert cka.compute().item() == pytest.approx(expected[0] / np.sqrt(expected[1] * expected[2]), abs=1e-10)


def test_every_layer_with_every_other():
    layers = [torch.randn(32, 5, 8), torch.randn(32, 16), torch.randn(32, 3, 2, 2)]
    cka = MinibatchCKA()
    cka.update(layers, layers[:2])
    values = cka.compute()
    assert values.shape == (3, 2)
    for i, j in itertools.product(range(3), range(2)):
        x, y = layers[i].flatten(1).double().numpy(), layers[j].flatten(1).double().numpy()
        assert values[i, j].item() == pytest.approx(direct_cka(x, y), abs=1e-5)
    assert values.diagonal().tolist() == pytest.approx([1, 1])


def test_memory_is_linear_in_the_samples():
    x = torch.randn(200_000, 4)  # a kernel would take 320 GB
    assert linear_cka(x, x[:, :2]) == pytest.approx(0.5**0.5, abs=0.01)


@both_forms
def test_a_constant_is_aligned_with_nothing(form):
    assert form(torch.ones(10, 3), torch.randn(10, 3)) == 0


@pytest.mark.parametrize(("first", "second"), [(3, 3), (10, 9)])
def test_samples_that_do_not_fit(first, second):
    with pytest.raises(ValueError, match=rf"CKA of {first} and {second} samples .* at least 4.* same images"):
        linear_cka(torch.randn(first, 2), torch.randn(second, 2))


def test_no_batch():
    cka = MinibatchCKA()
    cka.update([torch.randn(3, 2)], [torch.randn(3, 2)])
    with pytest.raises(ValueError, match="No batch had 4 samples.*larger `batch_size`"):
        cka.compute()
