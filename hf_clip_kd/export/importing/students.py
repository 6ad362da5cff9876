"""A model of open_clip as a student: a stock [`~transformers.CLIPModel`], or a [`TimmCLIPModel`] on its timm trunk."""

from __future__ import annotations

import torch
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPVisionModel, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ...models import TimmCLIPConfig, TimmCLIPModel, TimmVisionModel
from ...models.open_clip.conversion import close, convert_image_encoder, convert_text_encoder, noise
from ...models.towers.timm_tower import tower_of_trunk
from .architecture import is_reparameterized

STUDENTS = {CLIPVisionModel: (CLIPConfig, CLIPModel), TimmVisionModel: (TimmCLIPConfig, TimmCLIPModel)}


@torch.no_grad()
def to_student(
    model: nn.Module, pixels: PreprocessCfg, tokenizer: PreTrainedTokenizerBase
) -> tuple[CLIPModel | TimmCLIPModel, CLIPProcessor]:
    """
    Return the same embeddings from a class of ours, and its processor.

    Args:
        model (`nn.Module`): A model of open_clip, in fp32 on the CPU; put into eval mode.
        pixels (`PreprocessCfg`): Preprocessing of its images.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer with the ids of the model's training.

    Raises:
        ValueError: No class of ours computes what it computes; the message is the reason alone, for a caller to
            complete.
    """
    image_processor = image_processor_of(pixels)
    text = convert_text_encoder(model, tokenizer.eos_token_id)
    text.config.bos_token_id, text.config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    convert = convert_timm if isinstance(model.visual, TimmModel) else convert_vit
    tower, projection = convert(model.visual.eval())
    config_class, model_class = STUDENTS[type(tower)]
    config = config_class(
        text_config=text.config.to_dict(),
        vision_config=tower.config.to_dict(),
        projection_dim=text.config.projection_dim,
    )
    student = model_class(config).eval()
    student.vision_model = tower
    student.text_model = text.text_model
    student.visual_projection.weight.copy_(projection)
    student.text_projection.weight.copy_(text.text_projection.weight)
    student.logit_scale.copy_(model.logit_scale.reshape(()))
    return student, CLIPProcessor(image_processor, tokenizer)


def convert_vit(visual: nn.Module) -> tuple[CLIPVisionModel, Tensor]:
    encoder = convert_image_encoder(visual)
    return encoder.vision_model, encoder.visual_projection.weight


def convert_timm(visual: TimmModel) -> tuple[TimmVisionModel, Tensor]:
    """Return the trunk and its projection: open_clip's, or the trunk's own classifier as in MobileCLIP."""
    trunk, head = visual.trunk, dict(visual.head.named_children())
    projection = trunk.get_classifier() if not head else head.get("proj")
    if not isinstance(projection, nn.Linear) or head.keys() - {"drop", "proj"}:
        raise ValueError(f"its image embedding is made by {', '.join(head) or type(projection).__name__}")
    if projection.bias is not None and projection.bias.any():
        raise ValueError("its image projection has a bias")
    own = {name for name, module in trunk.named_modules() if module is projection}
    weights = {key: value for key, value in trunk.state_dict().items() if key.rpartition(".")[0] not in own}
    tower = rebuild(trunk, weights, visual.image_size[0])
    image = noise(visual)
    embeds = tower(image).pooler_output @ projection.weight.T
    if not close(embeds, visual(image)):
        raise ValueError("its image embedding is not a projection of what the trunk pools")
    return tower, projection.weight


def rebuild(trunk: nn.Module, weights: dict[str, Tensor], image_size: int) -> TimmVisionModel:
    """Return the trunk as timm builds it by name, or with its own pooling or folded branches."""
    architecture = trunk.pretrained_cfg["architecture"]
    pooling = {"global_pool": getattr(trunk, "global_pool", None)}
    for model_args in ({"inference_mode": True},) if is_reparameterized(weights) else (None, pooling):
        try:
            return tower_of_trunk(architecture, weights, image_size, origin=architecture, model_args=model_args)
        except (TypeError, ValueError):
            continue
    raise ValueError(f"timm builds {architecture} differently")


def image_processor_of(pixels: PreprocessCfg) -> CLIPImageProcessorPil:
    side = pixels.size if isinstance(pixels.size, int) else pixels.size[0]
    square = {"height": side, "width": side}
    if pixels.resize_mode not in ("shortest", "squash"):
        raise ValueError(f"its images are resized by {pixels.resize_mode!r}")
    crops = pixels.resize_mode == "shortest"
    return CLIPImageProcessorPil(
        size={"shortest_edge": side} if crops else square,
        crop_size=square,
        do_center_crop=crops,
        resample=PILImageResampling[pixels.interpolation.upper()],
        image_mean=list(pixels.mean),
        image_std=list(pixels.std),
    )


__all__ = ["to_student"]
