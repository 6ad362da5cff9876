"""Untrained miniature parts of a LLaVA: image towers of every kind and causal language models."""

import numpy as np
import torch
from chat_tokenizers import chat_tokenizer
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from hf_clip_kd.models import TimmVisionConfig, TimmVisionModel
from hf_clip_kd.models.presets import measure_trunk

SIDE = 64
VIT = {"img_size": SIDE, "depth": 2, "embed_dim": 32, "num_heads": 2}
STAGES = {"depths": [1, 1, 1, 1]}
# family -> (model of timm, its arguments)
TOWERS = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "vit_without_class_token": ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}),
    "vit_with_registers": ("vit_tiny_patch16_224", VIT | {"reg_tokens": 4}),
    "vit_with_only_registers": (
        "vit_tiny_patch16_224",
        VIT | {"reg_tokens": 4, "class_token": False, "global_pool": "avg"},
    ),
    "convnext": ("convnext_atto", STAGES | {"dims": [8, 16, 24, 32]}),
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        STAGES | {"img_size": SIDE, "window_size": 2, "embed_dim": 16, "num_heads": [1, 2, 2, 4]},
    ),
    "fastvit": ("fastvit_t8", {"layers": [1, 1, 1, 1], "embed_dims": [16, 32, 64, 128]}),
}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = TEXT | {"num_key_value_heads": 1}
# family -> (model, tokenizer): the class, its configuration, and the tokenizer's family
LANGUAGE_MODELS = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, GROUPED | {"tie_word_embeddings": True}, "qwen"),
    "llama": (LlamaForCausalLM, LlamaConfig, GROUPED, "vicuna"),
    "gemma": (GemmaForCausalLM, GemmaConfig, GROUPED | {"head_dim": 16}, "gemma"),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, GROUPED | {"head_dim": 16}, "gemma"),
    "cohere": (CohereForCausalLM, CohereConfig, TEXT | {"logit_scale": 0.25}, "vicuna"),
    "phi": (PhiForCausalLM, PhiConfig, TEXT, "vicuna"),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2}, "gpt2"),
}


def timm_tower(family="vit"):
    architecture, model_args = TOWERS[family]
    config = {"architecture": architecture, "image_size": SIDE, "model_args": model_args}
    facts = measure_trunk(TimmVisionConfig(**config), family)
    torch.manual_seed(0)
    return TimmVisionModel(TimmVisionConfig(**config, **facts)).eval()


def image_processor(side=SIDE):
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def language_model(family="qwen2", **config):
    """(model, tokenizer)"""
    model_class, config_class, values, tokenizer_family = LANGUAGE_MODELS[family]
    tokenizer = chat_tokenizer(tokenizer_family)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    values = {"vocab_size": len(tokenizer), "pad_token_id": None, **ids, **values, **config}
    torch.manual_seed(1)
    return model_class(config_class(**values)).eval(), tokenizer


def picture(height=40, width=70, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
