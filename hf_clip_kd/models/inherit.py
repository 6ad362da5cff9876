"""Start a student from its teacher's weights: towers cut to its size, or the teacher's text tower whole."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPVisionModel,
    MetaClip2VisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from .open_clip import is_open_clip
from .tokenizer import clip_tokenizer

logger = logging.getLogger(__name__)

PARTS = ("image", "text", "whole_text", "frozen_text")
POSITIONS = "vision_model.embeddings.position_embedding.weight"
TOKENS = "text_model.embeddings.token_embedding.weight"
LAYER = re.compile(r"(?<=encoder\.layers\.)\d+")


class Tower(NamedTuple):
    """Names that [`~transformers.CLIPModel`] gives to the parts of one of its towers."""

    kind: str
    module: str
    projection: str
    config: str
    # Classes with the same weights under the same names, computing the same.
    classes: tuple[type, ...]


IMAGE = Tower("image", "vision_model", "visual_projection", "vision_config", (CLIPVisionModel, MetaClip2VisionModel))
TEXT = Tower("text", "text_model", "text_projection", "text_config", (CLIPTextModel,))


def init_from_teacher(
    student: PreTrainedModel, processor: ProcessorMixin, teacher, parts: Sequence[str] = ("image", "text")
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    Give a student weights of its teacher, by the manual rule of [TinyCLIP](https://huggingface.co/papers/2309.12314).

    A tower is cut to the student's size. T layers become S: layers 0, T // S, 2 * (T // S) and so on. Every matrix and
    vector keeps its leading channels, and so the leading attention heads and neurons. A token keeps its embedding,
    wherever a smaller vocabulary has it. Positions of an image are interpolated to the student's grid. The student
    takes over the teacher's activation. It takes the normalisation of pixels with the image tower, and the scale with
    both towers. A teacher of the student's own size is inherited whole.

    Args:
        student ([`~transformers.PreTrainedModel`]): From [`load_clip`]; not changed.
        processor ([`~transformers.ProcessorMixin`]): Its processor; not changed.
        teacher ([`CLIPTeacher`]): A CLIP of transformers or of open_clip. `image` needs a ViT with a class token. The
            text parts need CLIP's causal transformer.
        parts (`Sequence[str]`, *optional*, defaults to `("image", "text")`): `image` and `text` are towers cut to
            size. `whole_text` instead of `text` is the text tower with its own size, projection and tokenizer. It
            replaces the student's, which may be a [`TimmCLIPModel`]. `frozen_text` is the same and not trained.

    Returns:
        `tuple`: the new student, and its processor. It has the weights of `student` where the teacher has none for it.

    Raises:
        ValueError: A part does not exist, the teacher or the student has no such tower, or the student is larger.

    Example:

    ```python
    student, processor = kd.load_clip("ViT-S-16")
    teacher = kd.CLIPTeacher("open_clip:ViT-B-16/laion2b_s34b_b88k")
    student, processor = kd.init_from_teacher(student, processor, teacher, ["image", "frozen_text"])
    ```
    """
    check_parts(parts)
    check_teacher(teacher)
    config, processor, weights = copy.deepcopy(student.config), copy.deepcopy(processor), {}
    # A whole text tower decides the width of the embeddings, so it comes first.
    if text := set(parts) - {"image"}:
        check_tower(student, TEXT, "The student")
        weights |= inherit_text(config, processor, teacher, whole="text" not in text)
    if "image" in parts:
        check_tower(student, IMAGE, "The student")
        weights |= inherit_image(config, processor, teacher)
    if text and "image" in parts:
        weights["logit_scale"] = teacher.logit_scale

    # A student in half precision would round the teacher's weights.
    dtype = torch.promote_types(student.dtype, torch.float32)
    heir = type(student)._from_config(config, dtype=dtype, attn_implementation=student.config._attn_implementation)
    state, own = heir.state_dict(), student.state_dict()
    for name, value in state.items():
        if name in weights:
            # Heads lie one after the other and are equally wide, so leading channels are leading heads.
            state[name] = weights[name][tuple(map(slice, value.shape))]
        elif own[name].shape == value.shape:  # A projection to another width starts anew.
            state[name] = own[name]
    heir.load_state_dict(state)
    if "frozen_text" in parts:
        heir.text_model.requires_grad_(False)
        heir.text_projection.requires_grad_(False)
    return heir.to(student.device).train(student.training), processor


def check_parts(parts: Sequence[str]) -> None:
    if isinstance(parts, str) or not parts or set(parts) - set(PARTS) or len(set(parts) - {"image"}) > 1:
        raise ValueError(
            f"init_from_teacher={parts!r} names no parts of a teacher. Allowed is a list of 'image' and one of "
            "'text', 'whole_text' and 'frozen_text'. Write `init_from_teacher: [image, text]`."
        )


def check_teacher(teacher) -> None:
    if not isinstance(getattr(teacher, "model", None), nn.Module):
        given = "no teacher" if teacher is None else f"a {type(teacher).__name__}"
        raise ValueError(
            f"init_from_teacher was asked for with {given}, but weights come from one model. Allowed is a CLIP of "
            "transformers or open_clip. Give such a teacher_model_name_or_path, or leave out init_from_teacher."
        )


def inherit_image(config: PreTrainedConfig, processor: ProcessorMixin, teacher) -> dict[str, Tensor]:
    """Return the weights of the image tower for a student; `config` and `processor` take over how it computes."""
    theirs, weights = tower_of(teacher, IMAGE)
    own = config.vision_config
    check_sizes(IMAGE, config, theirs, weights, teacher.name_or_path)
    pixels = teacher.processor.image_processor
    processor.image_processor.image_mean, processor.image_processor.image_std = pixels.image_mean, pixels.image_std
    side = own.image_size // own.patch_size
    positions = weights[POSITIONS]
    weights[POSITIONS] = resample_abs_pos_embed(positions[None], [side, side])[0]
    return keep_layers(IMAGE, own, theirs, weights)


def inherit_text(config: PreTrainedConfig, processor: ProcessorMixin, teacher, whole: bool) -> dict[str, Tensor]:
    """Do what [`inherit_image`] does; with `whole` the configuration and the tokenizer become the teacher's."""
    tokenizer = teacher_tokenizer(teacher)
    theirs, weights = tower_of(teacher, TEXT, tokenizer)
    if whole:
        config.text_config = copy.deepcopy(theirs)
        # Some configurations of transformers have other ids than the tokenizer (end token 2).
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config.text_config, token, getattr(tokenizer, token))
        config.projection_dim = len(weights["text_projection.weight"])
        for tower_config in (config.text_config, config.vision_config):
            if hasattr(tower_config, "projection_dim"):  # A timm trunk has none.
                tower_config.projection_dim = config.projection_dim
        processor.tokenizer = tokenizer
    else:
        weights[TOKENS] = weights[TOKENS][token_rows(processor.tokenizer, tokenizer, teacher.name_or_path)]
    check_sizes(TEXT, config, theirs, weights, teacher.name_or_path)
    return keep_layers(TEXT, config.text_config, theirs, weights)


def tower_of(
    teacher, tower: Tower, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Return the configuration of a teacher's tower, and its weights by their names in [`~transformers.CLIPModel`]."""
    model = teacher.model
    if is_open_clip(model):
        from .open_clip.conversion import convert_image_encoder, convert_text_encoder

        # A conversion checks itself in full precision on the CPU, so it gets a copy.
        model = copy.deepcopy(model).to("cpu", torch.float32)
        try:
            if tower is IMAGE:
                model = convert_image_encoder(model.visual)
            else:
                model = convert_text_encoder(model, tokenizer.eos_token_id)
        except ValueError as error:
            raise not_inheritable(tower, f"The teacher {teacher.name_or_path!r}", str(error)) from error
    check_tower(model, tower, f"The teacher {teacher.name_or_path!r}")
    parts = (f"{tower.module}.", f"{tower.projection}.")
    weights = {name: weight for name, weight in model.state_dict().items() if name.startswith(parts)}
    return getattr(model, tower.module).config, weights


def check_tower(model: PreTrainedModel, tower: Tower, owner: str) -> None:
    module = getattr(model, tower.module, None)
    if not isinstance(module, tower.classes):
        raise not_inheritable(tower, owner, f"it is a {type(model).__name__} with a {type(module).__name__}")
    if not hasattr(model, tower.projection):
        raise not_inheritable(tower, owner, f"it is a tower alone, without {tower.projection}")


def not_inheritable(tower: Tower, owner: str, reason: str) -> ValueError:
    others = "image" if tower is TEXT else "text"
    return ValueError(
        f"{owner} has no {tower.kind} tower for init_from_teacher: {reason}. Allowed are the {tower.kind} towers of "
        f"CLIP models, of transformers and open_clip alike. Take such a model, or leave the {tower.kind} tower out: "
        f"`init_from_teacher: [{others}]`."
    )


def check_sizes(
    tower: Tower, config: PreTrainedConfig, theirs: PreTrainedConfig, weights: dict[str, Tensor], name: str
) -> None:
    """Refuse a student that is larger than its teacher, or differs in a size that cannot be cut."""
    own = getattr(config, tower.config)
    sizes = {
        size: (getattr(own, size), getattr(theirs, size))
        for size in ("hidden_size", "intermediate_size", "num_hidden_layers")
    }
    sizes["projection_dim"] = config.projection_dim, len(weights[f"{tower.projection}.weight"])
    fixed = {
        "hidden_size / num_attention_heads": tuple(
            config.hidden_size // config.num_attention_heads for config in (own, theirs)
        )
    }
    if tower is IMAGE:
        fixed["patch_size"] = own.patch_size, theirs.patch_size
    else:
        sizes["max_position_embeddings"] = own.max_position_embeddings, theirs.max_position_embeddings
        sizes["vocab_size"] = own.vocab_size, len(weights[TOKENS])
    wrong = [f"{size}={mine}, at most {limit}" for size, (mine, limit) in sizes.items() if mine > limit]
    wrong += [f"{size}={mine}, exactly {must}" for size, (mine, must) in fixed.items() if mine != must]
    if wrong:
        raise ValueError(
            f"The {tower.config} of the student does not fit into the {tower.kind} tower of the teacher {name!r}, of "
            f"which it should be a part. It has and may have: {'; '.join(wrong)}. Take another student or teacher, or "
            "a JSON with these sizes as `model_name_or_path`."
        )


def keep_layers(
    tower: Tower, own: PreTrainedConfig, theirs: PreTrainedConfig, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Keep evenly spaced layers, counted anew; the configuration takes over the activation and the norm."""
    own.hidden_act, own.layer_norm_eps = theirs.hidden_act, theirs.layer_norm_eps
    step = theirs.num_hidden_layers // own.num_hidden_layers
    kept = range(0, step * own.num_hidden_layers, step)
    logger.info(
        "The student's %s tower starts from its teacher's: width %d of %d, layers %s of %d.",
        tower.kind,
        own.hidden_size,
        theirs.hidden_size,
        [*kept],
        theirs.num_hidden_layers,
    )
    found = {name: LAYER.search(name) for name in weights}
    return {
        name if layer is None else LAYER.sub(str(kept.index(int(layer[0]))), name): weights[name]
        for name, layer in found.items()
        if layer is None or int(layer[0]) in kept
    }


def teacher_tokenizer(teacher) -> PreTrainedTokenizerBase:
    """Return the teacher's tokenizer as one of transformers."""
    tokenizer = teacher.processor.tokenizer
    if not is_open_clip(teacher.model):
        return tokenizer
    from open_clip.tokenizer import SimpleTokenizer

    if not isinstance(tokenizer.tokenizer, SimpleTokenizer):
        raise not_inheritable(
            TEXT, f"The teacher {teacher.name_or_path!r}", f"its tokenizer is a {type(tokenizer.tokenizer).__name__}"
        )
    return clip_tokenizer(tokenizer.tokenizer.vocab_size, tokenizer.context_length)


def token_rows(own: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, name: str) -> list[int]:
    """Return the teacher's ids of the student's tokens, in the order of the student's."""
    vocabulary, tokens = theirs.get_vocab(), own.get_vocab()
    if unknown := sorted(set(tokens) - set(vocabulary)):
        raise ValueError(
            f"The student has {len(unknown)} tokens that the teacher {name!r} has not (such as {unknown[0]!r}). To "
            "cut a text tower, the tokenizers must be the same, or the student's a part of the teacher's. Take the "
            "teacher's with its tower: `init_from_teacher: [whole_text]`."
        )
    return [vocabulary[token] for token in sorted(tokens, key=tokens.get)]


__all__ = ["init_from_teacher"]
