"""Texts as a reader reads them: ids, and the token that each place must predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...data.exchanges import Exchange

IGNORED = -100
LONGEST = 256  # Tokens of a text beside those of the image. The rest is cut.
KNOWN = 4096  # Texts whose tokens are remembered. Questions repeat, and captions come again in every epoch.


class Texts:
    """
    Writer of a reader's inputs, on the workers of a dataloader. A subclass writes `encode`.

    Args:
        padding (`int`): Id behind the end of shorter texts.
    """

    def __init__(self, padding: int | None):
        self.padding = 0 if padding is None else padding
        self._known: dict[Exchange, tuple[Tensor, Tensor]] = {}

    def encode(self, question: str | None, answer: str) -> tuple[list[int], list[bool]]:
        """
        Write one text.

        Args:
            question (`str`, *optional*): The question, or `None` for a caption.
            answer (`str`): Its answer, or the caption.

        Returns:
            `tuple`: all ids, and for each whether the reader must predict it.
        """
        raise NotImplementedError

    def __call__(self, exchanges: Sequence[Exchange]) -> dict[str, Tensor]:
        """
        Write the texts of a batch.

        Args:
            exchanges (`Sequence[tuple[str | None, str]]`): Question and answer of each image, or `None` and a caption.

        Returns:
            `dict`: `input_ids`, `attention_mask` and `labels`, `(images, length)`, padded on the right. A label is the
            token that its place must predict, or -100.
        """
        made = [self._encoded(exchange) for exchange in exchanges]
        ids, labels = zip(*made, strict=True)
        lengths = torch.tensor([len(row) for row in ids])
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.padding),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }

    def _encoded(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        if exchange not in self._known:
            ids, predicted = self.encode(*exchange)
            row = torch.tensor(ids)
            labels = row.masked_fill(~torch.tensor(predicted), IGNORED)[1:]
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[exchange] = row[:-1], labels
        return self._known[exchange]


class LlavaTexts(Texts):
    """
    Texts of a LLaVA.

    A question and its answer are written by its chat template. A caption has the form of LLaVA's first stage: the
    image, the caption and a newline, without a question.

    Args:
        processor (`LlavaProcessor`): Its processor, whose chat template marks answers with `{% generation %}`.
        num_image_tokens (`int`): Number of tokens of an image.
    """

    def __init__(self, processor: Any, num_image_tokens: int):
        super().__init__(processor.tokenizer.pad_token_id)
        self.tokenizer, self.image_token_id = processor.tokenizer, processor.image_token_id
        self.template = processor.chat_template or processor.tokenizer.chat_template
        self.image = processor.image_token * num_image_tokens
        self.longest = num_image_tokens + LONGEST

    def encode(self, question: str | None, answer: str) -> tuple[list[int], list[bool]]:
        if question is None:
            # Tokenizers whose BOS is their EOS separate documents with it, and write none in front of a text.
            bos, eos = self.tokenizer.bos_token, self.tokenizer.eos_token
            start = "" if bos is None or bos == eos else bos
            ids = self.tokenizer(f"{start}{self.image}{answer}\n", add_special_tokens=False)["input_ids"]
            last = len(ids) - ids[::-1].index(self.image_token_id)
            return ids[: self.longest], [place >= last for place in range(len(ids))][: self.longest]
        turns = [("user", f"{self.image}\n{question}"), ("assistant", answer)]
        encoded = self.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            chat_template=self.template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        predicted = list(map(bool, encoded["assistant_masks"]))
        return list(encoded["input_ids"])[: self.longest], predicted[: self.longest]


class CaptionerTexts(Texts):
    """
    Texts of a caption decoder: a begin, the question if there is any, the answer or caption, and an end.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer. Its end also begins a text if it has no other begin.
        max_length (`int`): Tokens that the decoder reads.
    """

    def __init__(self, tokenizer: Any, max_length: int):
        super().__init__(tokenizer.pad_token_id)
        self.tokenizer, self.max_length = tokenizer, max_length
        self.end = tokenizer.eos_token_id
        self.begin = self.end if tokenizer.bos_token_id is None else tokenizer.bos_token_id

    def encode(self, question: str | None, answer: str) -> tuple[list[int], list[bool]]:
        asked, answered = (
            self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []
            for text in (question, answer)
        )
        ids = [self.begin, *asked, *answered, self.end]
        predicted = [False] * (1 + len(asked)) + [True] * (len(answered) + 1)
        return ids[: self.max_length + 1], predicted[: self.max_length + 1]


__all__ = ["CaptionerTexts", "LlavaTexts", "Texts"]
