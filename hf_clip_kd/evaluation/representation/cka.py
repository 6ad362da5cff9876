"""Linear centred kernel alignment, unbiased, in memory that does not grow with the square of the samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MIN_SAMPLES = 4  # The unbiased estimate needs as many.


def linear_cka(x: Tensor, y: Tensor) -> float:
    """
    Return the likeness of two representations of the same samples, up to rotation, shift and size.

    It is `HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))` ([Kornblith et al.](https://huggingface.co/papers/1905.00414))
    with the linear kernel. The estimate of HSIC is unbiased ([Song et al.](https://jmlr.org/papers/v13/song12a.html));
    the biased one would rise with the widths. The value is exact over all samples, without their n x n kernel.

    Args:
        x (`Tensor` of shape `(samples, Dx)`): One representation, at least 4 samples.
        y (`Tensor` of shape `(samples, Dy)`): The other one of the same samples.

    Returns:
        `float`: 1 for equal representations, about 0 (also a little below) for unrelated ones, and 0 if one of them is
            constant.

    Raises:
        ValueError: The numbers of samples differ or are too few.
    """
    if len(x) != len(y) or len(x) < MIN_SAMPLES:
        raise ValueError(
            f"CKA of {len(x)} and {len(y)} samples does not exist. Both representations must be of the same samples, "
            f"at least {MIN_SAMPLES}. Pass the features of the same images."
        )
    x, y = (z.double() - z.double().mean(dim=0) for z in (x, y))
    return float(alignment(feature_hsic(x, y), feature_hsic(x, x), feature_hsic(y, y)))


def feature_hsic(x: Tensor, y: Tensor) -> Tensor:
    """
    Return the unbiased HSIC with the linear kernel, in `samples * (Dx + Dy) + Dx * Dy` of memory.

    `K = x x'` and `L = y y'` are without their diagonals. Every term of [`hsic`] is then one over features:
    `tr(K L) = |x' y|^2 - sum_i k_ii l_ii`, and the row sums of `K` are `x (x' 1) - diag`.

    Args:
        x (`Tensor` of shape `(samples, Dx)`), y (`Tensor` of shape `(samples, Dy)`): Centred features.

    Returns:
        `Tensor`: 0-dim.
    """
    diagonals = [z.square().sum(dim=1) for z in (x, y)]
    rows = [z @ z.sum(dim=0) - diagonal for z, diagonal in zip((x, y), diagonals, strict=True)]
    return unbiased(
        (x.T @ y).square().sum() - diagonals[0] @ diagonals[1], *(row.sum() for row in rows), rows[0] @ rows[1], len(x)
    )


class MinibatchCKA:
    """
    CKA of every layer of one model with every layer of another, batch by batch.

    The unbiased HSIC of each batch is averaged before the ratio is taken, weighted by the samples
    ([Nguyen et al.](https://huggingface.co/papers/2010.15327)). Layers may have any shape: a sample's tokens are
    concatenated. Batches should be random ones of the data. The memory is that of one batch. The value tends to that
    of [`linear_cka`] with more or larger batches.

    Example:

    ```python
    >>> cka = MinibatchCKA()
    >>> for images in batches:
    ...     cka.update(teacher_layers(images), student_layers(images))
    >>> cka.compute().shape
    torch.Size([12, 6])
    ```
    """

    def __init__(self):
        self._sums = [0.0, 0.0, 0.0]
        self._samples = 0

    def update(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """
        Add a batch. A batch of fewer than 4 samples has no estimate and is skipped.

        Args:
            first (sequence of `Tensor` of shape `(batch, ...)`): The layers of one model.
            second (sequence of `Tensor` of shape `(batch, ...)`): The layers of the other for the same samples.
        """
        n = len(first[0])
        if n < MIN_SAMPLES:
            return
        k, l = (torch.stack([kernel(layer) for layer in layers]) for layers in (first, second))  # noqa: E741
        values = hsic(k[:, None], l[None]), hsic(k, k), hsic(l, l)
        self._sums = [total + n * value for total, value in zip(self._sums, values, strict=True)]
        self._samples += n

    def compute(self) -> Tensor:
        """
        Return CKA of every pair of layers.

        Returns:
            `Tensor` of shape `(layers of the first, layers of the second)` in float64 on the CPU.

        Raises:
            ValueError: There was no batch of at least 4 samples.
        """
        if not self._samples:
            raise ValueError(
                f"No batch had {MIN_SAMPLES} samples, and CKA exists from {MIN_SAMPLES} on. Batches should be as "
                "large as memory allows. Pass more images, or a larger `batch_size`."
            )
        cross, first, second = self._sums
        return alignment(cross, first[:, None], second[None]).cpu()


def kernel(features: Tensor) -> Tensor:
    """
    Return inner products `(batch, batch)` of samples `(batch, ...)` in float64, without the diagonal.

    The samples are centred first, which keeps digits.
    """
    x = features.flatten(1)
    x = x - x.mean(dim=0)
    products = (x @ x.T).double()
    return products - torch.diag(products.diagonal())


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Return unbiased HSIC of kernels `(..., n, n)` without their diagonals; the leading dimensions broadcast."""
    rows = k.sum(dim=-1), l.sum(dim=-1)
    return unbiased(
        (k * l).sum(dim=(-1, -2)), *(row.sum(dim=-1) for row in rows), (rows[0] * rows[1]).sum(dim=-1), k.shape[-1]
    )


def unbiased(trace: Tensor, sum_k: Tensor, sum_l: Tensor, rows: Tensor, n: int) -> Tensor:
    """Return the estimate of Song et al. from `tr(K L)`, sums over `K` and `L`, and their row sums' product."""
    return (trace + sum_k * sum_l / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def alignment(cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the ratio of HSICs; a constant representation has none and is aligned with nothing."""
    norm = (first * second).clamp_min(0).sqrt()
    return torch.where(norm > 0, cross / norm, 0.0)
