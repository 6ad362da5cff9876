"""Tiny models of every kind a teacher can be, with random weights and tokenizers built offline."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    AlignConfig,
    AlignModel,
    AltCLIPConfig,
    AltCLIPModel,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)

from hf_clip_kd.models.tokenizer import clip_tokenizer

TEXTS = ["a photo of a red circle", "Two Green squares!", "the small dog, on a very large hill"]
WORDS = "a photo of red circle two green squares the small dog on very large hill".split()
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def images(count=3, size=(40, 52), seed=0):
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def word_tokenizer(lowercase):
    vocab = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=64
    )


def character_tokenizer():
    """Make the tokenizer of a native SigLIP 2 folder, with one token per character."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocab = {token: index for index, token in enumerate([*special, "▁", *"abcdefghijklmnopqrstuvwxyz"])}
    return Siglip2Tokenizer(vocab=vocab, merges=[], padding_side="right")


def tiny_clip(act="quick_gelu", processor_length=77):
    text = {**TOWER, "vocab_size": 600, "bos_token_id": 598, "eos_token_id": 599, "hidden_act": act}
    vision = {**TOWER, "image_size": 32, "patch_size": 8, "hidden_act": act}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, CLIPProcessor(image_processor, clip_tokenizer(600, processor_length))


def tiny_siglip():
    config = SiglipConfig(
        text_config={**TOWER, "vocab_size": 40, "max_position_embeddings": 16},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    model.logit_scale.data.fill_(2.3)
    model.logit_bias.data.fill_(-9.0)
    return model, SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), word_tokenizer(True))


def tiny_siglip2():
    config = Siglip2Config(
        text_config={**TOWER, "vocab_size": 40, "max_position_embeddings": 16},
        vision_config={**TOWER, "num_patches": 16, "patch_size": 8},
    )
    torch.manual_seed(0)
    processor = Siglip2Processor(Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16), character_tokenizer())
    return Siglip2Model(config).eval(), processor


def processor(side=32, length=16):
    """Pictures of `side` pixels and words of a handful, for a model without a processor of its own."""
    tokenizer = word_tokenizer(lowercase=True)
    tokenizer.model_max_length = length
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return SimpleNamespace(image_processor=pictures, tokenizer=tokenizer)


def tiny_dual_encoder(kind):
    """Make a dual encoder that is neither CLIP nor SigLIP. Its scale differs from the initial scale."""
    text = {**TOWER, "vocab_size": 40, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 1}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    efficientnet = {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 48}
    roberta = {**text, "max_position_embeddings": 18, "project_dim": 32, "pad_token_id": 1}
    towers = {
        "metaclip_2": (MetaClip2Model, MetaClip2Config, text, vision, 24),
        "altclip": (AltCLIPModel, AltCLIPConfig, roberta, vision, 24),
        "align": (AlignModel, AlignConfig, text, efficientnet, 32),
        "chinese_clip": (ChineseCLIPModel, ChineseCLIPConfig, text, vision, 24),
    }
    model_class, config_class, text, vision, width = towers[kind]
    torch.manual_seed(0)
    model = model_class(config_class(text_config=text, vision_config=vision, projection_dim=width)).eval()
    for name, parameter in model.named_parameters():
        if kind == "align" and name.startswith("vision_model"):
            parameter.data.normal_(std=0.3)  # The initial weights would leave nothing of a picture of 32 pixels.
        if name in ("logit_scale", "temperature"):
            parameter.data.fill_(0.7)
    return model


def tiny_metaclip():
    text = {**TOWER, "vocab_size": 600, "bos_token_id": 598, "eos_token_id": 599}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    return MetaClip2Model(MetaClip2Config(text_config=text, vision_config=vision, projection_dim=24)).eval()
