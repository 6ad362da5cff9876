"""A small probe that answers questions from frozen tokens alone, by type of question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HELD_OUT = 0.25
WIDTH, HEADS = 64, 4
STEPS, BATCH, LEARNING_RATE = 200, 128, 5e-3


class Question(NamedTuple):
    """A question about image number `image` of those encoded, with its accepted answers and its type."""

    image: int
    text: str
    answers: tuple[str, ...]
    kind: str


class AttentiveProbe(nn.Module):
    """
    Attention layer from a question to the tokens, and a linear layer.

    The query is a bag of the question's words; keys and values are the tokens. It is the attentive probe of
    [V-JEPA](https://huggingface.co/papers/2404.08471) with a question for a query.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Tokens for the fit, by which each channel is
            standardised.
        words (`int`): Number of words that questions have.
        answers (`int`): Number of answers to choose from.
    """

    def __init__(self, tokens: Tensor, words: int, answers: int):
        super().__init__()
        self.register_buffer("mean", tokens.float().mean(dim=(0, 1)))
        self.register_buffer("std", tokens.float().std(dim=(0, 1)).clamp_min(1e-6))
        self.token = nn.Linear(tokens.shape[2], WIDTH)
        self.position = nn.Parameter(torch.randn(tokens.shape[1], WIDTH))
        self.question = nn.Linear(words, WIDTH, bias=False)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.answer = nn.Linear(2 * WIDTH, answers)

    def forward(self, tokens: Tensor, questions: Tensor) -> Tensor:
        """Return logits `(batch, answers)` for tokens `(batch, tokens, channels)` and word counts `(batch, words)`."""
        keys = self.token((tokens.float() - self.mean) / self.std) + self.position
        query = self.question(questions)
        read, _ = self.attention(query[:, None], keys, keys, need_weights=False)
        return self.answer(torch.cat([read[:, 0], query], dim=-1))


@torch.enable_grad()
def question_probe(tokens: Tensor, questions: Sequence[Question]) -> float:
    """
    Train an [`AttentiveProbe`] on questions about the first three quarters of the images, and test it on the rest.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Frozen tokens of images in random order.
        questions (sequence of [`Question`]): Questions of one type. The most frequent accepted answer is learned.

    Returns:
        `float`: Share of the questions about the last quarter that get an accepted answer; 0 if there are none.
    """
    first_held_out = int(len(tokens) * (1 - HELD_OUT))
    known = [question for question in questions if question.image < first_held_out]
    asked = [question for question in questions if question.image >= first_held_out]
    if not known or not asked:
        return 0.0
    words = numbered(word for question in known for word in words_of(question.text))
    targets = [Counter(question.answers).most_common(1)[0][0] for question in known]
    answers = numbered(targets)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        probe = AttentiveProbe(tokens[:first_held_out], len(words), len(answers)).to(tokens.device)
        fit(probe, tokens, *encoded(known, words), torch.tensor([answers[target] for target in targets]))
    with torch.no_grad():
        batches = zip(*(part.split(BATCH) for part in encoded(asked, words)), strict=True)
        logits = [probe(tokens[images], counts.to(tokens.device)) for images, counts in batches]
    spoken = list(answers)
    said = [spoken[i] for i in torch.cat(logits).argmax(dim=-1).tolist()]
    return sum(answer in question.answers for answer, question in zip(said, asked, strict=True)) / len(asked)


def fit(probe: nn.Module, tokens: Tensor, images: Tensor, counts: Tensor, targets: Tensor) -> None:
    """Train with cross-entropy, AdamW and one cycle of the learning rate; every step draws its batch anew."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(targets), (BATCH,))
        logits = probe(tokens[images[rows]], counts[rows].to(tokens.device))
        F.cross_entropy(logits, targets[rows].to(tokens.device)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def encoded(questions: Sequence[Question], words: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Return each question's image, `(questions,)`, and its counts of the known words, `(questions, words)`."""
    counts = torch.zeros(len(questions), len(words))
    for row, question in enumerate(questions):
        for word in words_of(question.text):
            if word in words:
                counts[row, words[word]] += 1
    return torch.tensor([question.image for question in questions]), counts


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def numbered(items: Iterable[str]) -> dict[str, int]:
    """Return each different item with its place in the alphabet."""
    return {item: number for number, item in enumerate(sorted(set(items)))}
