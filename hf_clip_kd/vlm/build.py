"""[`build_llava`]: any image tower and any causal language model as one stock LLaVA."""

import copy
import logging
import os
from functools import partial

import numpy as np
import torch
from torch import nn
from transformers import (
    BaseImageProcessor,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..models.load_tower import load_tower
from ..models.resolution import resize_images
from .chat_templates import check_prompt, default_chat_template, get_chat_template
from .feature_scale import measure_features
from .image_modes import square_image_processor
from .image_tokens import ImageTokens, check_layer, measure_image_tokens, name_of
from .language_model import (
    IMAGE_TOKEN,
    add_special_tokens,
    load_language_model,
    no_stock_head,
    probe_logits,
    stock_head,
)
from .tiles import LLAVAS, check_tile, check_tiles, has_tiles, tile_image_processor
from .token_reduction import REDUCTIONS, check_reduction, reduce_tokens

logger = logging.getLogger(__name__)


def build_llava(
    vision_tower: str | os.PathLike | PreTrainedModel,
    language_model: str | os.PathLike | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    image_processor: BaseImageProcessor | None = None,
    vision_feature_layer: int | list[int] = -2,
    image_mode: str = "square",
    image_size: int | None = None,
    image_tokens: int | None = None,
    token_reduction: str | None = None,
    tiles: list[list[int]] | None = None,
    chat_template: str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """
    Put an image tower in front of a language model, with a fresh projector (https://huggingface.co/papers/2310.03744).

    The number of image tokens, and which of them are patches, is measured on the tower. Models given as objects are
    copied. Layers above `vision_feature_layer` get no gradient when the tower is trained.

    Args:
        vision_tower (`str`, `os.PathLike` or [`~transformers.PreTrainedModel`]): See [`load_tower`].
        language_model (`str`, `os.PathLike` or [`~transformers.PreTrainedModel`]):
            Folder or Hub id of a causal language model, `FOLDER//FILE.gguf`, or the model itself, with `tokenizer`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): Replaces the language model's own.
        image_processor ([`~transformers.BaseImageProcessor`], *optional*):
            Replaces the tower's own; required for a tower given as an object. It names size, mean, deviation and
            filter.
        vision_feature_layer (`int` or `list[int]`, *optional*, defaults to -2):
            Index of the hidden states to read; several are concatenated along the width. Levels of a convnet are
            brought onto one grid and width, see [`TimmVisionConfig`].
        image_mode (`str`, *optional*, defaults to `"square"`): Way to make an image square: `"square"`, `"pad"` or
            `"crop"`.
        image_size (`int`, *optional*): Side of the tower's images in pixels, if not its own. See [`resize_images`].
        image_tokens (`int`, *optional*):
            Tokens of an image for the language model, a square number. Default is all that the tower has. With
            `tiles` it is the number of each tile.
        token_reduction (`str`, *optional*):
            Way to that number: `"pool"` (default) averages neighbours, `"shuffle"` lays them side by side.
        tiles (`list[list[int]]`, *optional*):
            Rows and columns of tiles to choose from for each image, as in LLaVA-NeXT. Each tile has the tower's size.
            The model is then a [`~transformers.LlavaNextForConditionalGeneration`].
        chat_template (`str`, *optional*): One of [`list_chat_templates`]. Default is that of the language model's
            family.
        dtype (`torch.dtype`, *optional*): Type of all weights. Default is fp32, which holds every tower exactly.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Run code of the folders or repositories.

    Returns:
        `tuple`: [`~transformers.LlavaForConditionalGeneration`] in eval mode, greedy, and
            [`~transformers.LlavaProcessor`]; with `tiles` those of LLaVA-NeXT.

    Raises:
        ValueError: A model is missing, lacks weights, or the stock LLaVA cannot hold it exactly. Or the language model
            knows no token that ends an answer. Or the chat template lacks a BOS that the tokenizer adds.

    Example:

    ```python
    model, processor = build_llava("vit-t16-kd", "Qwen/Qwen2.5-0.5B-Instruct")
    ```
    """
    dtype = dtype or torch.float32
    layer = vision_feature_layer if isinstance(vision_feature_layer, int) else list(vision_feature_layer)
    check_layer(layer)
    if tiles is not None:
        check_tiles(tiles, image_mode)
    check_reduction(token_reduction, image_tokens)
    tower, own_processor = load_tower(vision_tower, trust_remote_code=trust_remote_code)
    if image_processor is None and own_processor is None:
        raise ValueError(
            f"vision_tower is a {type(vision_tower).__name__} and image_processor is None. A model does not say how "
            "its images are prepared. Pass both: build_llava(model, ..., image_processor=processor.image_processor)."
        )
    image_processor = image_processor or own_processor
    if image_size is not None:
        tower, image_processor = resize_images(tower, image_processor, image_size)
    elif isinstance(vision_tower, PreTrainedModel):
        tower = copy.deepcopy(tower)
    tower = tower.to(dtype).eval()
    image_processor = square_image_processor(image_processor, image_mode)
    side = image_processor.crop_size["height"]
    measured = measure_image_tokens(tower, layer, side)
    if image_tokens is not None:
        tower = reduce_tokens(tower, measured, image_tokens, token_reduction or REDUCTIONS[0], side)
        measured = measure_image_tokens(tower, layer, side)
    if tiles is not None:
        check_tile(measured, tower)
        image_processor = tile_image_processor(image_processor, tiles)

    causal, tokenizer = load_language_model(language_model, tokenizer, dtype, trust_remote_code)
    template = get_chat_template(chat_template or default_chat_template(causal.config, tokenizer))
    image_token_id = add_special_tokens(causal, tokenizer, template.end_of_turn)
    check_prompt(template, tokenizer)
    model = assemble(tower, causal, measured, layer, image_token_id, image_processor)
    model.generation_config = greedy(tokenizer, template.end_of_turn)
    tokenizer.chat_template = template.jinja
    processor = (LlavaProcessor if tiles is None else LlavaNextProcessor)(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=measured.patch_size,
        vision_feature_select_strategy=measured.select_strategy,
        num_additional_image_tokens=measured.num_prefix_tokens,
        chat_template=template.jinja,
    )
    check_counts(model, processor, measured)
    log_features(model, processor, measured)
    return model, processor


def assemble(
    tower: PreTrainedModel,
    causal: PreTrainedModel,
    image_tokens: ImageTokens,
    layer: int | list[int],
    image_token_id: int,
    image_processor: BaseImageProcessor,
) -> LlavaForConditionalGeneration:
    """Return the two models in the stock class, after a check that the language model's logits stay the same."""
    expected = probe_logits(causal)
    head, tied = stock_head(causal)
    # LlavaConfig takes the tying of embeddings from here.
    causal.config.tie_word_embeddings = tied
    pinpoints = getattr(image_processor, "image_grid_pinpoints", None)
    config = (LlavaConfig if pinpoints is None else partial(LlavaNextConfig, image_grid_pinpoints=pinpoints))(
        vision_config=tower.config,
        text_config=causal.config,
        image_token_index=image_token_id,
        image_seq_length=image_tokens.count,
        vision_feature_select_strategy=image_tokens.select_strategy,
        vision_feature_layer=layer,
        tie_word_embeddings=tied,
    )
    config.dtype = tower.dtype
    try:
        # The meta device takes no memory; the parts are replaced by those with weights.
        with torch.device("meta"):
            model = LLAVAS[config.model_type](config)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"The stock LLaVA cannot build {type(tower).__name__} or {type(causal).__name__} from their "
            f"configurations ({error}). Allowed are models of transformers and our timm towers. Models with code of "
            "their own are not."
        ) from error
    for built, given in ((model.model.vision_tower, tower), (model.model.language_model, causal.base_model)):
        if type(built) is not type(given):
            raise ValueError(
                f"The stock LLaVA builds a {type(built).__name__} where a {type(given).__name__} was given. Allowed "
                "are models that AutoModel makes of their configuration. Give the vision tower or the text model "
                "alone."
            )
    if more := sorted(model.model.vision_tower.state_dict().keys() - tower.state_dict().keys()):
        raise ValueError(
            f"The stock LLaVA builds a {type(tower).__name__} with {len(more)} tensors that this tower has not (such "
            f"as {more[0]}). A saved LLaVA needs all of them. Take the same architecture from timm: "
            "build_llava('timm:NAME', ...)."
        )
    model.model.vision_tower = tower
    model.model.language_model = causal.base_model
    # LLaVA uses torch's own initialisation; the stock class would draw from N(0, 0.02).
    projector = type(model.model.multi_modal_projector)(config)
    model.model.multi_modal_projector = projector.to(device=causal.device, dtype=tower.dtype)
    model.lm_head = head
    if has_tiles(model):
        width = config.text_config.hidden_size
        newline = torch.randn(width, device=causal.device, dtype=tower.dtype) / width**0.5
        model.model.image_newline = nn.Parameter(newline)
    model.to(causal.device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # Quantised weights are integers.
    if not torch.equal(probe_logits(model), expected):
        raise no_stock_head(causal, "text alone gives other logits")
    return model


def greedy(tokenizer: PreTrainedTokenizerBase, end_of_turn: str | None) -> GenerationConfig:
    ends = [tokenizer.eos_token_id]
    if end_of_turn is not None:
        ends.append(tokenizer.convert_tokens_to_ids(end_of_turn))
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)),
        pad_token_id=tokenizer.pad_token_id,
    )


def check_counts(model: LlavaForConditionalGeneration, processor: LlavaProcessor, image_tokens: ImageTokens) -> None:
    """Raise a `ValueError` if processor, tower and measurement disagree on the number of image tokens."""
    side = processor.image_processor.crop_size["height"]
    pixels = torch.zeros(3, side // 2 + 1, side, dtype=torch.uint8)
    inputs = processor(
        images=pixels.numpy(), text=IMAGE_TOKEN, return_tensors="pt", input_data_format="channels_first"
    )
    written = int((inputs["input_ids"] == model.config.image_token_index).sum())
    images = {name: inputs[name] for name in processor.image_processor.model_input_names if name in inputs}
    images["pixel_values"] = images["pixel_values"].to(device=model.device, dtype=model.dtype)
    with torch.no_grad():
        read = model.get_image_features(**images).pooler_output[0].shape[0]
    # Tiles of an image come on top.
    expected = read if has_tiles(model) else image_tokens.count
    if not written == read == expected:
        sizes = "" if has_tiles(model) else "an image processor that makes images of one size and "
        raise ValueError(
            f"The processor writes {written} image tokens, {name_of(model.model.vision_tower)} gives {read} and "
            f"{expected} are expected. They must be equal. Use {sizes}a tokenizer that keeps '<image>' whole."
        )


def log_features(model: LlavaForConditionalGeneration, processor: LlavaProcessor, image_tokens: ImageTokens) -> None:
    side = processor.image_processor.crop_size["height"]
    noise = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    statistics = measure_features(model, **processor.image_processor(list(noise), return_tensors="pt"))
    logger.info(
        "%s, layer %s: %d tokens per %s; features of noise have mean %.3g, std %.3g, largest %.3g",
        name_of(model.model.vision_tower),
        model.config.vision_feature_layer,
        image_tokens.count,
        "tile" if has_tiles(model) else "image",
        statistics.mean,
        statistics.std,
        statistics.max,
    )


__all__ = ["build_llava"]
