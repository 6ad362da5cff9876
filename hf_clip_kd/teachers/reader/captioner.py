"""A caption decoder on a teacher's tokens: as a model of transformers, and as a reader."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from ...losses.answers import mean_by_owner
from ...losses.parts.decoder import CaptionDecoder
from ...models.completeness import load_complete
from .base import Reader
from .texts import IGNORED, CaptionerTexts

RULE = "Allowed are complete weights. Train it again with recipes/train_captioner.py."


class CaptionerConfig(PreTrainedConfig):
    r"""
    Caption decoder on the tokens of one layer of a teacher.

    Args:
        token_dim (`int`, *optional*, defaults to 768):
            Channels of the teacher's tokens.
        num_tokens (`int`, *optional*, defaults to 196):
            Their number.
        teacher_layer (`int`, *optional*, defaults to -2):
            Entry of the teacher's `hidden_states` that they are.
        vocab_size (`int`, *optional*, defaults to 49408):
            Number of ids of the tokenizer.
        fusion (`str`, *optional*, defaults to `"cross"`):
            `"cross"`-attention to the image, or `"prefix"`.
        hidden_size, num_layers, num_heads (`int`, *optional*, default to 256, 2 and 4):
            Size of the decoder.
        max_length (`int`, *optional*, defaults to 77):
            Tokens of a text that it reads.
    """

    model_type = "hf_clip_kd_captioner"

    token_dim: int = 768
    num_tokens: int = 196
    teacher_layer: int = -2
    vocab_size: int = 49408
    fusion: str = "cross"
    hidden_size: int = 256
    num_layers: int = 2
    num_heads: int = 4
    max_length: int = 77


class Captioner(PreTrainedModel):
    """
    [`~hf_clip_kd.losses.parts.decoder.CaptionDecoder`] that transformers saves and loads.

    Args:
        config ([`CaptionerConfig`]): Its sizes.
    """

    config: CaptionerConfig
    config_class = CaptionerConfig
    base_model_prefix = "captioner"
    _no_split_modules = ["Layer"]

    def __init__(self, config: CaptionerConfig):
        super().__init__(config)
        sizes = ("fusion", "hidden_size", "num_layers", "num_heads", "max_length")
        self.decoder = CaptionDecoder(
            config.token_dim, config.vocab_size, **{name: getattr(config, name) for name in sizes}
        )
        self.post_init()

    def _init_weights(self, module) -> None:
        """Do nothing: the decoder has its fresh weights already. Deviations of 0.02 are meant for wide models."""

    def forward(
        self, tokens: Tensor, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> CausalLMOutput:
        """
        Predict texts.

        Args:
            tokens (`Tensor` of shape `(images, num_tokens, token_dim)`): A teacher's tokens.
            input_ids, labels (`Tensor` of shape `(images, length)`): From [`CaptionerTexts`]. A label is the token
                that its place must predict, or -100.
            attention_mask (`Tensor`, *optional*): Not read: padding stands on the right, where nothing looks at it.

        Returns:
            [`~transformers.modeling_outputs.CausalLMOutput`]: `loss` in nats, a mean over an image's labels and then
            over images, and `logits` `(labels, vocab_size)`.
        """
        positions = (labels != IGNORED).nonzero(as_tuple=True)
        logits = self.decoder(tokens, input_ids, positions)
        values = F.cross_entropy(logits.float(), labels[positions], reduction="none")
        loss = mean_by_owner(values, positions[0], len(labels)).mean()
        return CausalLMOutput(loss=loss, logits=logits)


class CaptionerReader(Reader):
    """
    A caption decoder, frozen.

    Args:
        name (`str`): Folder that recipes/train_captioner.py wrote, or its copy on the Hub.
        layers (*optional*): Not allowed, because the decoder is small.
        dtype, device (*optional*): Arguments of [`Reader`].

    Raises:
        ValueError: Weights are missing, or `layers` is given.
    """

    def __init__(
        self,
        name: str,
        *,
        layers: int | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ):
        super().__init__(name, dtype, device)
        if layers is not None:
            raise ValueError(
                f"layers={layers} of the reader {name!r}, which is a caption decoder. Only the language model of a "
                "LLaVA may be cut. Leave `layers` out."
            )
        model = load_complete(Captioner, name, RULE, dtype=dtype or torch.float32)
        config = model.config
        self.token_dim, self.num_tokens, self.layer = config.token_dim, config.num_tokens, config.teacher_layer
        self.texts = CaptionerTexts(AutoTokenizer.from_pretrained(name), config.max_length)
        self.decoder = model.decoder
        self.freeze()

    def logits(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, positions: tuple) -> Tensor:
        return self.decoder(tokens, input_ids, positions)


__all__ = ["Captioner", "CaptionerConfig", "CaptionerReader"]
