"""The language side of a LLaVA as a reader."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ...models import ReducedTowerConfig, token_layout
from ...models.completeness import load_complete
from .base import Reader
from .texts import LlavaTexts

RULE = "Allowed are complete weights. Save the LLaVA again with save_llava."


class LlavaReader(Reader):
    """
    Projector, language model and head of a LLaVA, frozen. Its tower is left out: tokens come from elsewhere.

    The teacher must be the tower that the LLaVA was trained on.

    Args:
        name (`str`): Folder or Hub id of a LLaVA, such as [`~hf_clip_kd.save_llava`] writes.
        layers (`int`, *optional*): Number of the first layers to read with, before the last norm and the head.
        dtype, device (*optional*): Arguments of [`Reader`].

    Raises:
        ValueError: Weights are missing, several layers of the tower are read, or registers beside the patches. Or the
            chat template does not mark answers, or the language model has not so many layers.
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
        model = load_complete(LlavaForConditionalGeneration, name, RULE, dtype=dtype or torch.float32)
        config = model.config
        if isinstance(config.vision_config, ReducedTowerConfig):
            raise ValueError(
                f"The LLaVA {name!r} reads {math.prod(config.vision_config.grid)} tokens that were reduced. A reader "
                "reads the patches of a tower as they are. Train it without `image_tokens`."
            )
        layout = token_layout(config.vision_config)
        dropped = 1 if config.vision_feature_select_strategy == "default" else 0
        if not isinstance(config.vision_feature_layer, int) or layout.num_prefix_tokens != dropped:
            raise ValueError(
                f"The LLaVA {name!r} reads layer {config.vision_feature_layer} of its tower, with "
                f"{layout.num_prefix_tokens - dropped} tokens besides the patches. A reader reads the patches of one "
                "layer. Build it with one `vision_feature_layer`, on a tower without registers."
            )
        processor = LlavaProcessor.from_pretrained(name)
        self.token_dim, self.num_tokens = config.vision_config.hidden_size, math.prod(layout.grid)
        self.layer, self.depth = config.vision_feature_layer, config.vision_config.num_hidden_layers
        self.texts = LlavaTexts(processor, self.num_tokens)
        if self.texts.template is None or not any(self.texts.encode("What is it?", "yes")[1]):
            raise ValueError(
                f"The chat template of the LLaVA {name!r} does not mark its answers. It must have "
                "`{% generation %}` spans, from which labels come. Save the LLaVA again with a template of "
                "`hf_clip_kd.vlm.get_chat_template`."
            )
        self.image_token_id = config.image_token_index
        self.projector, self.head = model.model.multi_modal_projector, model.lm_head
        self.language_model = first_layers(model.model.language_model, layers, name)
        self.freeze()

    def logits(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor, positions: tuple) -> Tensor:
        embeds = self.language_model.get_input_embeddings()(input_ids)
        image = (input_ids == self.image_token_id)[..., None]
        embeds = embeds.masked_scatter(image, self.projector(tokens).to(embeds.dtype))
        output = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False)
        # Only the wanted places meet the vocabulary, which is large.
        return self.head(output.last_hidden_state[positions])


def first_layers(language_model: torch.nn.Module, layers: int | None, name: str) -> torch.nn.Module:
    """
    Cut a language model to its first layers, in place.

    Raises:
        ValueError: It has not so many, or no list of layers.
    """
    if layers is None:
        return language_model
    own = getattr(language_model, "layers", ())
    if not 1 <= layers <= len(own):
        raise ValueError(
            f"layers={layers} of the reader {name!r}, whose {type(language_model).__name__} has {len(own)} layers to "
            f"choose from. Allowed are 1 to {len(own)}. Leave `layers` out for all of them."
        )
    language_model.layers = own[:layers]
    language_model.config.num_hidden_layers = layers
    return language_model


__all__ = ["LlavaReader"]
