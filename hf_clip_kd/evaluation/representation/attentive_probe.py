"""A small network that answers questions of all types from frozen tokens, and its fit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS = 128, 8
BATCH, LEARNING_RATE, WEIGHT_DECAY = 256, 7e-3, 0.5
# Steps of a fit: enough for each type, and for each question. Fewer make good towers look alike, and differ by seed.
LEAST_STEPS, STEPS_PER_TYPE, PASSES = 300, 150, 8
MOST_PASSES = 100  # More over few questions only cost time.


class Question(NamedTuple):
    """A question about image number `image` of those encoded, with its accepted answers and its type."""

    image: int
    text: str
    answers: tuple[str, ...]
    kind: str

    @classmethod
    def of(cls, image: int, text: str, answers: str | Sequence[str], kind: str) -> Question:
        """Make a question of the cells of a row, with one accepted answer or several."""
        return cls(image, text, (answers,) if isinstance(answers, str) else tuple(answers), kind)


class AttentiveProbe(nn.Module):
    """
    Attention layer from a question to the tokens, and a layer of answers.

    The query is a bag of the question's words; keys and values are the tokens. It is the attentive probe of
    [V-JEPA](https://huggingface.co/papers/2404.08471) with a question for a query. Each head has a query in the space
    of the tokens. So no token is projected, and a question costs a tenth of ordinary attention.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Tokens for the fit, by which each channel is
            standardised.
        words (`int`): Number of words that questions have. Word 0 is padding.
        answers (`int`): Number of answers to choose from.
    """

    def __init__(self, tokens: Tensor, words: int, answers: int):
        super().__init__()
        channels = tokens.shape[2]
        std, mean = torch.std_mean(tokens.float(), dim=(0, 1))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.clamp_min(1e-6))
        self.position = nn.Parameter(torch.randn(tokens.shape[1], channels))
        self.words = nn.EmbeddingBag(words, WIDTH, mode="sum", padding_idx=0)
        nn.init.uniform_(self.words.weight, -(words**-0.5), words**-0.5)
        self.query = nn.Linear(WIDTH, HEADS * channels)
        self.value = nn.Linear(HEADS * channels, WIDTH)
        self.answer = nn.Linear(2 * WIDTH, answers)

    def forward(self, tokens: Tensor, questions: Tensor) -> Tensor:
        """Return logits `(batch, answers)` for tokens `(batch, tokens, channels)` and words `(batch, most words)`."""
        tokens, asked = tokens.float(), self.words(questions)
        queries = self.query(asked).unflatten(-1, (HEADS, -1)) / math.sqrt(tokens.shape[2])
        # Attention to (tokens - mean) / std + position. A standardised copy of the tokens would take most of the time.
        places = self.position - self.mean / self.std
        weights = torch.softmax((queries / self.std) @ tokens.mT + queries @ places.T, dim=-1)
        read = weights @ tokens / self.std + weights @ places
        return self.answer(F.gelu(torch.cat([self.value(read.flatten(1)), asked], dim=-1)))


@torch.enable_grad()
def question_hits(
    tokens: Tensor,
    known: Sequence[Question],
    held_out_tokens: Tensor,
    asked: Sequence[Question],
    seed: int = 0,
    steps: int | None = None,
) -> list[float]:
    """
    Fit an [`AttentiveProbe`] to questions, and return 1 for each other question that gets an accepted answer, else 0.

    Args:
        tokens (`Tensor` of shape `(others, tokens, channels)`): Frozen tokens of the images for the fit.
        known (sequence of [`Question`]): Questions about them, one at least. The most frequent accepted answer is
            learned. All types count alike, however many questions they have.
        held_out_tokens (`Tensor` of shape `(images, tokens, channels)`): Tokens of the images to judge.
        asked (sequence of [`Question`]): Questions about these. A type that `known` lacks gets no right answer.
        seed (`int`, *optional*, defaults to 0): Seed of the first weights and of the batches.
        steps (`int`, *optional*): Steps of the fit. The default is [`number_of_steps`] of `known`.

    Returns:
        `list[float]`: In the order of `asked`.
    """
    words = {word: place for place, word in enumerate(numbered(w for q in known for w in words_of(q)), start=1)}
    targets = [Counter(question.answers).most_common(1)[0][0] for question in known]
    answers = numbered(targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        probe = AttentiveProbe(tokens, len(words) + 1, len(answers)).to(tokens.device)
        targets = torch.tensor([answers[target] for target in targets])
        fit(probe, tokens, known, bags(known, words), targets, steps or number_of_steps(known))
    kinds, spoken = {question.kind for question in known}, list(answers)
    images = torch.tensor([question.image for question in asked], dtype=torch.long)
    with torch.no_grad():
        said = [
            spoken[answer]
            for rows, bag in zip(images.split(BATCH), bags(asked, words).split(BATCH), strict=True)
            for answer in probe(held_out_tokens[rows], bag.to(tokens.device)).argmax(dim=-1).tolist()
        ]
    return [float(q.kind in kinds and answer in q.answers) for answer, q in zip(said, asked, strict=True)]


def fit(
    probe: AttentiveProbe, tokens: Tensor, known: Sequence[Question], words: Tensor, targets: Tensor, steps: int
) -> None:
    """Train with cross-entropy, AdamW and one cycle of the learning rate; every step draws its batch anew."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    images = torch.tensor([question.image for question in known])
    of_kind = Counter(question.kind for question in known)
    weights = torch.tensor([1 / of_kind[question.kind] for question in known], dtype=torch.double)
    for rows in torch.multinomial(weights, steps * BATCH, replacement=True).split(BATCH):
        logits = probe(tokens[images[rows]], words[rows].to(tokens.device))
        F.cross_entropy(logits, targets[rows].to(tokens.device)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def number_of_steps(known: Sequence[Question]) -> int:
    """Return the number of steps of a fit to these questions."""
    types = len({question.kind for question in known})
    wanted = max(LEAST_STEPS, STEPS_PER_TYPE * types, PASSES * len(known) // BATCH)
    return min(wanted, max(1, MOST_PASSES * len(known) // BATCH))


def bags(questions: Sequence[Question], words: dict[str, int]) -> Tensor:
    """Return the numbers of each question's known words, `(questions, most words)`, with 0 for padding."""
    found = [torch.tensor([words[word] for word in words_of(question) if word in words]) for question in questions]
    return nn.utils.rnn.pad_sequence(found, batch_first=True).long() if found else torch.zeros(0, 1, dtype=torch.long)


def words_of(question: Question) -> list[str]:
    """Return the words of a question, and its type as a word of its own."""
    return [*re.findall(r"\w+", question.text.lower()), f"type {question.kind}"]


def numbered(items: Iterable[str]) -> dict[str, int]:
    """Return each different item with its place in the alphabet."""
    return {item: number for number, item in enumerate(sorted(set(items)))}
