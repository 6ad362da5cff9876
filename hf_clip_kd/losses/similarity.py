"""Losses on softmaxes of a batch's similarities, computed in chunks: their memory grows with the batch only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .base import INITIAL_LOGIT_SCALE, DistillationLoss
from .features import CLIPDims, CLIPFeatures
from .parts.chunks import CHUNK_ELEMENTS


@dataclass(frozen=True, eq=False)
class Similarities:
    """
    Scaled similarities `scale * queries @ keys.T` of shape `(batch, batch)`, computed in chunks of rows.

    Args:
        queries (`Tensor` of shape `(batch, dim)`): One row for each row of the matrix.
        keys (`Tensor` of shape `(batch, dim)`): One row for each column of the matrix.
        scale (0-dim `Tensor`): Factor, already exponentiated.
    """

    queries: Tensor
    keys: Tensor
    scale: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.queries, self.keys, self.scale

    def rows(self, chunk: slice, out: Tensor) -> Tensor:
        """Compute the rows of `chunk` into `out`."""
        return torch.mm(self.queries[chunk] * self.scale, self.keys.T, out=out)


@dataclass(frozen=True, eq=False)
class Term:
    """
    Cross-entropy of similarities against a target, a mean over the rows, or over rows and columns.

    Args:
        logits ([`Similarities`]): The student's similarities, with gradient.
        targets (`tuple[Similarities, ...]`): The mean of their softmaxes is the target. The default is the diagonal.
        shares (`tuple[float, ...]`): Weight of each target in their mean, adding up to 1. The default is equal
            weights.
        divergence (`bool`): Subtract the target's entropy, which gives the KL divergence from the target.
        columns (`bool`): Take the mean with the same value over the columns, that is for the transposed matrices.
    """

    logits: Similarities
    targets: tuple[Similarities, ...] = ()
    divergence: bool = False
    columns: bool = True
    shares: tuple[float, ...] = ()


class SimilarityLoss(DistillationLoss):
    """
    Base class of losses on softmaxes of similarities, each a sum of [`Term`]s.

    A subclass writes [`~SimilarityLoss.terms`]. [`LossSum`] evaluates the terms of all losses together, so that losses
    on the same similarities share their computation.
    """

    needs_others = True

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> dict[Term, float]:
        """Return the terms and the factor on each. The features are those of [`~DistillationLoss.compute`]."""
        raise NotImplementedError

    def checked_terms(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> dict[Term, float]:
        """Check the features as [`~DistillationLoss.forward`] does, and return the terms."""
        self.check(student, teacher)
        return self.terms(student, teacher)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        return evaluate([self.terms(student, teacher)], [1.0])[0]


class ScaledSimilarityLoss(SimilarityLoss):
    """
    [`SimilarityLoss`] with its own learned scale.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number. The authors' code multiplies by the logarithm of the scale, 2.66, in place of
            the scale itself, 14.3.
    """

    def __init__(self, student: CLIPDims, teacher: CLIPDims, *, upstream_compat: bool = False):
        super().__init__(student, teacher)
        self.upstream_compat = upstream_compat
        self.logit_scale = nn.Parameter(torch.tensor([math.log(INITIAL_LOGIT_SCALE)]))

    def scale_as(self, features: Tensor) -> Tensor:
        """Return the factor on similarities, 0-dim, in the type of `features`."""
        scale = self.logit_scale[0].to(features.dtype)
        return scale if self.upstream_compat else scale.exp()

    def bounded_scales(self) -> list[nn.Parameter]:
        # The parameter is the factor itself under `upstream_compat`, and the authors let it grow freely.
        return [] if self.upstream_compat else super().bounded_scales()


def evaluate(losses: Sequence[Mapping[Term, float]], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """
    Compute the weighted sum of several losses, and each of them.

    No chunk is kept, so the gradient is computed together with the values, chunk by chunk. The backward pass only
    multiplies it.

    Args:
        losses (`Sequence[Mapping[Term, float]]`): Terms of each loss, and the factor on each term.
        weights (`Sequence[float]`): Weight of each loss.

    Returns:
        The sum, a 0-dim `Tensor` that can be differentiated once, and the losses before their weight, detached, of
        shape `(losses,)`.
    """
    inputs = {id(x): x for terms in losses for term in terms for x in term.logits.tensors}
    return _Evaluation.apply(losses, weights, torch.is_grad_enabled(), *inputs.values())


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, losses, weights, with_gradient, *inputs):
        wanted = [with_gradient and needed for needed in ctx.needs_input_grad[3:]]
        gradients = {id(x): torch.zeros_like(x) for x, needed in zip(inputs, wanted, strict=True) if needed}

        # Losses often read the same similarities. The matrix and its softmaxes are computed once for all of them.
        groups: dict[tuple[int, ...], dict[Term, float]] = {}
        for terms, weight in zip(losses, weights, strict=True):
            for term, factor in terms.items():
                groups.setdefault(tuple(map(id, term.logits.tensors)), {})[term] = weight * factor
        values: dict[Term, Tensor] = {}
        for group in groups.values():
            values |= _evaluate_group(group, gradients)

        parts = torch.stack([sum(factor * values[term] for term, factor in terms.items()) for terms in losses])
        ctx.mark_non_differentiable(parts)
        ctx.wanted = wanted
        ctx.save_for_backward(*gradients.values())
        return (parts * parts.new_tensor(weights)).sum(), parts

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream, _):
        gradients = iter(ctx.saved_tensors)
        return None, None, None, *(upstream * next(gradients) if wanted else None for wanted in ctx.wanted)


def _evaluate_group(weights: Mapping[Term, float], gradients: Mapping[int, Tensor]) -> dict[Term, Tensor]:
    """
    Compute each term on one matrix of logits, and add the weighted gradients to `gradients`.

    Args:
        weights (`Mapping[Term, float]`): Terms on the same similarities, and their weight in the total.
        gradients (`Mapping[int, Tensor]`): Gradient so far of each tensor that needs one, by its `id`.
    """
    logits = next(iter(weights)).logits
    batch = len(logits.queries)
    rows = min(batch, max(1, CHUNK_ELEMENTS // batch))
    buffers = logits.queries.new_empty(6, rows, batch)
    with_gradient = any(id(x) in gradients for x in logits.tensors)

    two_sided = [term for term in weights if term.columns]
    normalizers = {}  # Columns need their logsumexp before the first chunk. A row's is known with the row.
    for matrix in {matrix for term in two_sided for matrix in (logits, *term.targets)}:
        normalizers[matrix] = _column_logsumexp(matrix, buffers[0])
    values = {term: logits.queries.new_zeros(()) for term in weights}
    # Weight of each row and column in a term's own value, and in the total.
    shares = {term: 1 / (2 * batch if term.columns else batch) for term in weights}
    sides = [sum(weights[t] * shares[t] for t in terms) for terms in (weights, two_sided)]

    for start in range(0, batch, rows):
        chunk = slice(start, min(start + rows, batch))
        similarity, log_p, scratch, log_q, log_q_columns, gradient = buffers[:, : chunk.stop - start]
        logits.rows(chunk, out=similarity)
        log_probabilities = [torch.log_softmax(similarity, dim=1, out=log_p)]
        if two_sided:
            log_probabilities.append(similarity.sub_(normalizers[logits]))
        if with_gradient:  # The similarities' gradient is each side's softmax minus its targets.
            torch.exp(log_p, out=gradient).mul_(sides[0])
            if two_sided:
                gradient.add_(torch.exp(similarity, out=scratch), alpha=sides[1])

        for term, weight in weights.items():
            if not term.targets:
                for log_p_side in log_probabilities if term.columns else log_probabilities[:1]:
                    values[term].sub_(log_p_side.diagonal(start).sum(), alpha=shares[term])
                    if with_gradient:
                        gradient.diagonal(start).sub_(weight * shares[term])
                continue
            log_targets = [log_q, log_q_columns] if term.columns else [log_q]
            _log_targets(term, chunk, normalizers, log_targets, scratch)
            for log_p_side, log_target in zip(log_probabilities, log_targets, strict=False):
                if term.divergence:
                    torch.sub(log_target, log_p_side, out=scratch)
                else:
                    torch.neg(log_p_side, out=scratch)
                target = log_target.exp_()
                values[term].add_(scratch.mul_(target).sum(), alpha=shares[term])
                if with_gradient:
                    gradient.sub_(target, alpha=weight * shares[term])

        if with_gradient:
            _add_gradients(logits, chunk, gradient, gradients)
    # No term is negative, but rounding can make a divergence of 0 negative.
    return {term: value.clamp_(min=0) for term, value in values.items()}


def _column_logsumexp(matrix: Similarities, buffer: Tensor) -> Tensor:
    """Compute the logsumexp of each column, shape `(batch,)`. `buffer` holds the rows of one chunk."""
    total = matrix.queries.new_full((len(matrix.queries),), -math.inf)
    for start in range(0, len(total), len(buffer)):
        chunk = slice(start, min(start + len(buffer), len(total)))
        similarity = matrix.rows(chunk, out=buffer[: chunk.stop - start])
        top = similarity.amax(dim=0)
        total = torch.logaddexp(total, similarity.sub_(top).exp_().sum(dim=0).log_().add_(top))
    return total


def _log_targets(term: Term, chunk: slice, normalizers: Mapping[Similarities, Tensor], out: Sequence[Tensor], scratch):
    """Write the logarithm of the term's target to `out`, over the rows and, in a second tensor, the columns."""
    # All steps use logarithms. A target that underflows to 0 would turn 0 * log 0 into NaN.
    shares = term.shares or [1 / len(term.targets)] * len(term.targets)
    for i, (target, share) in enumerate(zip(term.targets, shares, strict=True)):
        similarity = target.rows(chunk, out=scratch)
        if i == 0:
            torch.log_softmax(similarity, dim=1, out=out[0]).add_(math.log(share))
            if term.columns:
                torch.sub(similarity, normalizers[target], out=out[1]).add_(math.log(share))
        else:
            torch.logaddexp(out[0], similarity.log_softmax(dim=1).add_(math.log(share)), out=out[0])
            if term.columns:
                similarity.sub_(normalizers[target]).add_(math.log(share))
                torch.logaddexp(out[1], similarity, out=out[1])


def _add_gradients(logits: Similarities, chunk: slice, gradient: Tensor, gradients: Mapping[int, Tensor]) -> None:
    """Add the gradients of queries, keys and scale that follow from the gradient of the similarities in `chunk`."""
    queries, keys, scale = (gradients.get(id(x)) for x in logits.tensors)
    if queries is not None or scale is not None:
        product = gradient @ logits.keys
        if scale is not None:
            scale += (product * logits.queries[chunk]).sum()
        if queries is not None:
            queries[chunk] += product.mul_(logits.scale)
    if keys is not None:
        keys.addmm_(gradient.T, logits.queries[chunk] * logits.scale)
