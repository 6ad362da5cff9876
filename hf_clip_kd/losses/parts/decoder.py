"""A small transformer that writes captions from image tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Projection
from .heads import Norm

FUSIONS = ("cross", "prefix")
DEVIATION = 0.02  # Standard deviation of fresh embeddings, as in GPT-2.


class CaptionDecoder(nn.Module):
    """
    Decoder that predicts the next token of a text from an image's tokens and the text so far.

    It reads the image by cross-attention ([CapPa](https://huggingface.co/papers/2306.07915)), or as a prefix of the
    text ([OpenVision 2](https://huggingface.co/papers/2509.01644)). It can also predict all tokens of a text at once.
    All words of that text are then masked, and each place sees all others.

    Args:
        token_dim (`int`): Channels of the image tokens.
        vocab_size (`int`): Number of tokens that it knows.
        fusion (`str`): `"cross"` or `"prefix"`.
        hidden_size (`int`): Its width, a multiple of `num_heads`.
        num_layers (`int`): Its depth.
        num_heads (`int`): Its heads.
        max_length (`int`): Largest number of tokens of a text that it reads.
        parallel (`bool`): Whether it can predict texts at once.

    Raises:
        ValueError: if the fusion is unknown, a size is no integer above 0, or the heads do not divide the width.
    """

    def __init__(
        self,
        token_dim: int,
        vocab_size: int,
        *,
        fusion: str = "cross",
        hidden_size: int = 256,
        num_layers: int = 2,
        num_heads: int = 4,
        max_length: int = 77,
        parallel: bool = False,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(
                f"fusion={fusion!r} is no way to show an image to a caption decoder. Allowed are {list(FUSIONS)}. "
                "Write for example `losses={'caption': {'fusion': 'cross'}}`."
            )
        sizes = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "max_length": max_length,
        }
        for name, size in sizes.items():
            if type(size) is not int or size < 1:
                raise ValueError(
                    f"{name}={size!r} is no size of a caption decoder. Allowed are integers above 0. Write for "
                    "example `hidden_size: 256`, `num_layers: 2`, `num_heads: 4` and `max_length: 77`."
                )
        if hidden_size % num_heads:
            raise ValueError(
                f"hidden_size={hidden_size} of a caption decoder is no multiple of num_heads={num_heads}. Each head "
                "gets an equal part of the width. Write for example `hidden_size: 256` with `num_heads: 4`."
            )
        self.fusion, self.max_length = fusion, max_length
        self.image_norm, self.image = Norm(token_dim), Projection(token_dim, hidden_size)
        self.words = nn.Embedding(vocab_size, hidden_size)
        self.places = nn.Parameter(torch.empty(max_length, hidden_size))
        # DDP waits for the gradient of every weight, so there is none without a use.
        self.mask = nn.Parameter(torch.empty(1, hidden_size)) if parallel else None
        for embedding in (self.words.weight, self.places, *([self.mask] if parallel else [])):
            nn.init.normal_(embedding, std=DEVIATION)
        crosses = fusion == "cross"
        self.layers = nn.ModuleList(Layer(hidden_size, num_heads, crosses) for _ in range(num_layers))
        self.norm, self.head = Norm(hidden_size), Projection(hidden_size, vocab_size)

    def forward(
        self,
        tokens: Tensor,
        ids: Tensor,
        positions: Tensor | tuple[Tensor, Tensor],
        parallel: Tensor | None = None,
    ) -> Tensor:
        """
        Predict the token after each of the given tokens.

        Args:
            tokens (`Tensor` of shape `(images, N, token_dim)`): Image tokens.
            ids (`Tensor` of shape `(images, length)`): A text for each image, padded on the right.
            positions (`Tensor` of shape `(images, length)`, or a pair of shape `(positions,)`):
                True where an answer is wanted, nowhere on padding. Or the rows and columns of these.
            parallel (`Tensor` of shape `(images,)`, *optional*): True for texts that are predicted at once.

        Returns:
            `Tensor` of shape `(positions, vocab_size)`, logits in the type of `tokens`, image by image.
        """
        image, x = self.image(self.image_norm(tokens)), self.words(ids).to(tokens.dtype)
        if parallel is not None:
            x = torch.where(parallel[:, None, None], self.mask.to(x.dtype), x)
        x = x + self.places[: ids.shape[1]].to(x.dtype)
        allowed = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()[None]
        if parallel is not None:
            allowed = allowed | parallel[:, None, None]
        if self.fusion == "prefix":
            x, allowed = torch.cat([image, x], dim=1), with_prefix(allowed, image.shape[1])
        for layer in self.layers:
            x = layer(x, allowed[:, None], image)
        return self.head(self.norm(x[:, -ids.shape[1] :][positions]))


class Layer(nn.Module):
    """A layer of the decoder: self-attention, cross-attention if asked for, and a perceptron, norms before each."""

    def __init__(self, hidden_size: int, num_heads: int, crosses: bool):
        super().__init__()
        self.self_norm, self.self_attention = Norm(hidden_size), Attention(hidden_size, num_heads)
        self.crosses = crosses
        if crosses:
            self.cross_norm, self.cross_attention = Norm(hidden_size), Attention(hidden_size, num_heads)
        self.norm = Norm(hidden_size)
        self.expand, self.reduce = Projection(hidden_size, 4 * hidden_size), Projection(4 * hidden_size, hidden_size)

    def forward(self, x: Tensor, allowed: Tensor, image: Tensor) -> Tensor:
        normed = self.self_norm(x)
        x = x + self.self_attention(normed, normed, allowed)
        if self.crosses:
            x = x + self.cross_attention(self.cross_norm(x), image)
        return x + self.reduce(F.gelu(self.expand(self.norm(x))))


class Attention(nn.Module):
    """Multi-head attention of `x` to `others`. Its weights are modules that ZeRO-3 gathers as they are called."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key_value = Projection(hidden_size, hidden_size), Projection(hidden_size, 2 * hidden_size)
        self.out = Projection(hidden_size, hidden_size)

    def forward(self, x: Tensor, others: Tensor, allowed: Tensor | None = None) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(x), *self.key_value(others).chunk(2, dim=-1))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))


def with_prefix(allowed: Tensor, length: int) -> Tensor:
    """
    Put an image in front of a text: the text sees all of the image, and the image no text.

    Args:
        allowed (`Tensor` of shape `(texts, L, L)`): True where a place of the text (row) sees another (column).
        length (`int`): Number of image tokens.

    Returns:
        `Tensor` of shape `(texts, length + L, length + L)`.
    """
    image = allowed.new_zeros(len(allowed), length, allowed.shape[1])
    return F.pad(torch.cat([image, allowed], dim=1), (length, 0), value=True)


__all__ = ["CaptionDecoder"]
