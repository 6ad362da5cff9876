"""Statistics of the tokens that a vision-language model reads: rank, norms and outliers."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(singular_values: Tensor) -> float:
    """
    Return `exp` of the entropy of the singular values as shares of their sum
    ([Roy & Vetterli, 2007](https://ieeexplore.ieee.org/document/7098875)).

    Args:
        singular_values (`Tensor` of shape `(k,)`): Values of at least 0.

    Returns:
        `float`: 1 if all lie on a line, `k` if all directions count alike. It is 0 if all values are 0.
    """
    shares = singular_values / singular_values.sum().clamp_min(torch.finfo(singular_values.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp()) if shares.any() else 0.0


def share_of_outliers(values: Tensor) -> float:
    """
    Return the share of values above Tukey's outer fence (Exploratory Data Analysis, 1977).

    The fence is the third quartile plus three times the range between the quartiles. Two in a million of normal values
    lie above it.

    Args:
        values (`Tensor` of shape `(n,)`): One value or more.

    Returns:
        `float`: A share in [0, 0.25].
    """
    # `torch.quantile` takes 16 million values at most.
    lower, upper = (values.kthvalue(max(1, round(share * len(values)))).values for share in (0.25, 0.75))
    return float((values > upper + 3 * (upper - lower)).double().mean())


class TokenStatistics:
    """
    Statistics of tokens, batch by batch. Memory is the square of the channels, and one number per token.

    - `effective_rank`: [`effective_rank`] of all tokens less their mean, as rows of one matrix.
    - `token_norm`, `token_norm_cv`: mean of the tokens' norms, and their standard deviation over it.
    - `token_outliers`: share of tokens with an outlying norm, the artefacts that registers remove
      ([Darcet et al.](https://huggingface.co/papers/2309.16588)).
    - `channel_outliers`: share of channels with an outlying root mean square, massive activations
      ([Sun et al.](https://huggingface.co/papers/2402.17762)).
    """

    metric_names = ("effective_rank", "token_norm", "token_norm_cv", "token_outliers", "channel_outliers")

    def __init__(self):
        self._sum = self._products = 0.0
        self._norms: list[Tensor] = []

    def update(self, tokens: Tensor) -> None:
        """
        Add a batch.

        Args:
            tokens (`Tensor` of shape `(batch, tokens, channels)`): Finite.
        """
        rows = tokens.flatten(0, 1).double()
        self._sum = self._sum + rows.sum(dim=0)
        self._products = self._products + rows.T @ rows
        self._norms.append(rows.norm(dim=1))

    def compute(self) -> dict[str, float]:
        """Return the statistics of all added tokens by name."""
        norms = torch.cat(self._norms)
        mean, products = self._sum / len(norms), self._products / len(norms)
        # Squared singular values of the centred tokens; rounding leaves a few a little below 0.
        spectrum = torch.linalg.eigvalsh(products - torch.outer(mean, mean)).clamp_min(0)
        values = (
            effective_rank(spectrum.sqrt()),
            float(norms.mean()),
            float(norms.std(correction=0) / norms.mean().clamp_min(torch.finfo(norms.dtype).tiny)),
            share_of_outliers(norms),
            share_of_outliers(products.diagonal().sqrt()),
        )
        return dict(zip(self.metric_names, values, strict=True))
