"""A reader without a language model: a fixed map of an image's tokens, and texts for it."""

import functools

import torch
from torch import nn

from hf_clip_kd.losses.answers import Answers
from hf_clip_kd.teachers.reader.base import Reader
from hf_clip_kd.teachers.reader.texts import Texts

VOCABULARY = 7


def made_up_texts(images, length=4):
    """Inputs of a reader for a number of images. Image i has 1 + i % 3 positions."""
    labels = torch.arange(images * length).reshape(images, length) % VOCABULARY
    places = torch.arange(length)
    return {
        "input_ids": (labels + 1) % VOCABULARY,
        "attention_mask": torch.ones_like(labels),
        "labels": labels.masked_fill(places[None] > torch.arange(images)[:, None] % 3, -100),
    }


class LinearReader(Reader):
    """Answers that depend on the image's tokens and on the word before."""

    layer = -2

    def __init__(self, token_dim, num_tokens, dtype=torch.float32):
        super().__init__("made up")
        self.token_dim, self.num_tokens = token_dim, num_tokens
        generator = torch.Generator().manual_seed(5)
        with torch.random.fork_rng():  # A test's own random numbers stay.
            self.image, self.words = nn.Linear(token_dim, VOCABULARY), nn.Embedding(VOCABULARY, VOCABULARY)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)
        self.freeze()

    def logits(self, tokens, input_ids, attention_mask, positions):
        image = torch.tanh(self.image(tokens)).mean(dim=1)
        return (2 * image[:, None] + self.words(input_ids))[positions]


class Letters(Texts):
    """A text as the numbers of its letters, each answer of another length."""

    def __init__(self):
        super().__init__(0)

    def encode(self, question, answer):
        asked, answered = ([ord(letter) % 7 for letter in text or "x"] for text in (question, answer[:5]))
        return asked + answered, [False] * len(asked) + [True] * len(answered)


def spelling_reader():
    """A reader of the tiny CLIP's tokens that spells texts."""
    reader = LinearReader(32, 16)
    reader.texts = Letters()
    return reader


def with_questions(rows):
    """Rows of which every third has questions, and the others one or two captions."""
    asked = {"question": ["a?", "bb?", "ccc?"], "answers": [["d"], ["ee"], ["fff"]]}
    return [row | (asked if row["__index__"] % 3 == 0 else {}) for row in rows]


reader_of = functools.cache(LinearReader)  # It is frozen, and the same at every call.


def answers_about(tokens):
    """Answers of the reader about tokens `(images, N, channels)`, in fp32 or fp64 as the tokens are."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    reader = reader_of(tokens.shape[2], tokens.shape[1], dtype)
    return reader.answers(tokens.to(dtype), made_up_texts(len(tokens)))


def of_images(answers, rows):
    """The answers about some of the images, by their numbers, in this order."""
    places = torch.cat([(answers.owners == row).nonzero()[:, 0] for row in rows])
    counts = torch.stack([(answers.owners == row).sum() for row in rows])

    def read(tokens):
        whole = tokens.new_zeros(answers.images, *tokens.shape[1:]).index_copy(0, rows, tokens)
        return answers.read(whole)[places]

    owners = torch.arange(len(rows)).repeat_interleave(counts)
    return Answers(answers.logits[places], answers.labels[places], owners, len(rows), read)
