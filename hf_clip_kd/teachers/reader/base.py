"""Reader: a frozen language model that reads image tokens in the place of those that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...losses.answers import Answers
from ...models.precision import upcast
from ..base import Frozen
from .texts import IGNORED, Texts

# Names of the largest answers that a cache puts beside a reader's inputs.
ANSWER_LOGITS, ANSWER_IDS = "answer_logits", "answer_ids"


class Reader(Frozen):
    """
    A frozen model of text given an image's tokens: [`LlavaReader`] or [`CaptionerReader`].

    A subclass sets the attributes, and writes `logits`. Its weights get no gradient, its input does.

    Args:
        name (`str`): Its folder or Hub id.
        dtype (`torch.dtype`, *optional*):
            Precision of its computation, whatever the student's; by default that of the autocast around
            [`Reader.answers`].
        device (`str` or `torch.device`, *optional*): Device where it stays; by default the one that a trainer chooses.

    Attributes:
        texts ([`Texts`]): Function from questions and answers, or captions, to its inputs.
        token_dim (`int`): Channels of the tokens that it reads.
        num_tokens (`int`): Their number.
        layer (`int`): Entry of the teacher's `hidden_states` that they are.
        depth (`int`, *optional*): Number of layers of that teacher, if it is known.
    """

    texts: Texts
    token_dim: int
    num_tokens: int
    layer: int
    depth: int | None = None

    def __init__(self, name: str, dtype: torch.dtype | None = None, device: str | torch.device | None = None):
        super().__init__(dtype, device)
        self.name = name

    def logits(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, positions: tuple) -> Tensor:
        """
        Predict the token after each wanted position.

        Args:
            tokens (`Tensor` of shape `(images, num_tokens, token_dim)`): Image tokens.
            input_ids, attention_mask (`Tensor` of shape `(images, length)`): From `texts`.
            positions (a pair of `Tensor` of shape `(positions,)`): Rows and columns where an answer is wanted.

        Returns:
            `Tensor` of shape `(positions, vocabulary)`, image by image.
        """
        raise NotImplementedError

    def answers(self, tokens: Tensor | None, texts: dict[str, Tensor]) -> Answers:
        """
        Read the teacher's tokens of a batch, and stay ready to read others.

        Args:
            tokens (`Tensor` of shape `(images, num_tokens, token_dim)`, *optional*):
                The teacher's tokens, on any device. Not read if a cache has stored the answers.
            texts (`dict[str, Tensor]`): What `texts` made of the same rows, with stored answers if there are any.

        Raises:
            ValueError: The tokens have another shape than those that the reader was trained on.
        """
        # The host waits for the number of words here, and nowhere else.
        positions = (texts["labels"] != IGNORED).nonzero(as_tuple=True)
        owners, labels = positions[0], texts["labels"][positions]
        if ANSWER_LOGITS in texts:
            read = self.of_texts(texts, positions, labels.device)
            return Answers(texts[ANSWER_LOGITS], labels, owners, len(texts["labels"]), read, texts[ANSWER_IDS])
        read = self.of_texts(texts, positions, tokens.device)
        with torch.no_grad():
            logits = read(tokens)
        return Answers(logits, labels.to(tokens.device), owners.to(tokens.device), len(tokens), read)

    def of_texts(
        self, texts: dict[str, Tensor], positions: tuple[Tensor, Tensor], device: torch.device
    ) -> Callable[[Tensor], Tensor]:
        """Return a function of tokens that reads them beside these texts, in the precision of this moment."""
        own = next(self.parameters())
        inputs = {name: texts[name].to(own.device) for name in ("input_ids", "attention_mask")}
        positions = tuple(places.to(own.device) for places in positions)
        # A loss is computed without autocast. The reader keeps that of the teacher's pass.
        half = torch.is_autocast_enabled(own.device.type) and self.own_dtype is None
        dtype = torch.get_autocast_dtype(own.device.type) if half else None

        @torch.compiler.disable
        def read(tokens: Tensor) -> Tensor:
            self.check_shape(tokens)
            with torch.autocast(own.device.type, dtype=dtype, enabled=half):
                logits = self.logits(tokens.to(own.device, own.dtype), positions=positions, **inputs)
            return upcast(logits).to(device)

        return read

    def check_shape(self, tokens: Tensor) -> None:
        """Raise a `ValueError` for tokens of another number or width than those that the reader was trained on."""
        if tokens.shape[1:] != (self.num_tokens, self.token_dim):
            raise ValueError(
                f"The reader {self.name!r} got tokens of the shape {tuple(tokens.shape[1:])} for an image. It was "
                f"trained on {(self.num_tokens, self.token_dim)}, number and width. Give the teacher that it was "
                "trained on, at the same image size."
            )

    def layer_of(self, layers: Iterable[int | str]) -> int | None:
        """Return which entry of the teacher's `hidden_states` it was trained on, as `layers` count, if it is there."""
        return next((layer for layer in layers if self._reads(layer)), None)

    def _reads(self, layer: int) -> bool:
        if layer == self.layer:
            return True
        return self.depth is not None and isinstance(layer, int) and (layer - self.layer) % (self.depth + 1) == 0

    def freeze(self) -> None:
        """Put all parts in eval mode, without gradients; for the end of a subclass's `__init__`."""
        for part in self.children():
            part.requires_grad_(False).eval()
        self.training = False
        if self.own_device is not None:
            self.to(self.own_device)


__all__ = ["Reader"]
