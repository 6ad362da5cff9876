"""Captions and answers beside features: padding, micro-batches, and means over an image's texts."""

import torch
from made_up_reader import LinearReader, made_up_texts

from hf_clip_kd.losses.answers import Answers, Captions, mean_by_owner


def test_padding_without_a_mask_is_the_repeats_of_the_last_id():
    ids = torch.tensor([[5, 6, 1, 1, 1], [5, 6, 7, 8, 1], [5, 6, 7, 8, 9]])
    expected = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert Captions.of(ids).mask.int().tolist() == expected
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert torch.equal(Captions.of(ids, mask).mask, mask.bool())


def test_captions_of_micro_batches_are_padded_to_the_longest():
    short, long = Captions.of(torch.tensor([[3, 4, 1]])), Captions.of(torch.tensor([[3, 5, 6, 7, 1]]))
    joined = Captions.concatenate([short, long])
    assert joined.ids.tolist() == [[3, 4, 1, 0, 0], [3, 5, 6, 7, 1]]
    assert joined.mask.sum(dim=1).tolist() == [3, 5]


def test_answers_of_micro_batches_are_those_of_one_batch_with_its_gradient():
    tokens, texts = torch.randn(5, 4, 3, dtype=torch.float64), made_up_texts(5)
    reader = LinearReader(3, 4, torch.float64)
    whole = reader.answers(tokens, texts)
    pieces = [slice(0, 2), slice(2, 5)]
    parts = [reader.answers(tokens[own], {name: x[own] for name, x in texts.items()}) for own in pieces]
    joined = Answers.concatenate(parts)
    assert torch.equal(joined.owners, whole.owners) and torch.equal(joined.labels, whole.labels)
    assert joined.images == 5 and joined.ids is None
    torch.testing.assert_close(joined.logits, whole.logits)
    found = []
    for answers in (joined, whole):
        others = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        read = answers.read(others)
        (gradient,) = torch.autograd.grad(read.square().sum(), others)
        found.append((read.detach(), gradient))
    torch.testing.assert_close(*found)


def test_mean_by_owner():
    values, owners = torch.tensor([1.0, 3.0, 10.0], requires_grad=True), torch.tensor([0, 0, 2])
    means = mean_by_owner(values, owners, 3)
    assert means.tolist() == [2, 0, 10]
    means.sum().backward()
    assert values.grad.tolist() == [0.5, 0.5, 1.0]
