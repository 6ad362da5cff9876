"""Folders of tiny dual encoders whose tokenizers treat texts each in their own way, and not as their towers need."""

import torch
from teacher_models import TOWER
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    GemmaTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)

from hf_clip_kd.models.tokenizer import clip_tokenizer

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
VISION = TOWER | {"image_size": 32, "patch_size": 8}
TEXT = TOWER | {"vocab_size": 600, "bos_token_id": 2, "eos_token_id": 1}


def byte_tokenizer(lowercase, **arguments):
    """Every byte is a token, so that no two texts look alike. It does not know its context, and gives a mask."""
    vocab = {token: index for index, token in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.normalizer = normalizers.Lowercase() if lowercase else None
    made.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", **arguments
    )


def gemma_tokenizer():
    """Make the tokenizer of a fixed-resolution SigLIP 2: it keeps capitals, and whoever loads it anew, too."""
    letters = [chr(code) for start in (65, 97) for code in range(start, start + 26)]
    tokens = [*SPECIAL, "▁", *letters, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = GemmaTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], padding_side="right"
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer


def clip(positions=24):
    text = TEXT | {"bos_token_id": 598, "eos_token_id": 599, "max_position_embeddings": positions}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))


def siglip():
    return SiglipModel(SiglipConfig(text_config=TEXT | {"max_position_embeddings": 24}, vision_config=VISION))


def altclip():
    """Make a model on a RoBERTa: of 26 positions, 0 and 1 belong to the padding."""
    text = TEXT | {"max_position_embeddings": 26, "project_dim": 32, "pad_token_id": 1}
    return AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))


# Name -> how to make the model, and its tokenizer as it lies on disk. Each text tower takes 24 tokens.
FAMILIES = {
    "clip, tokenizer says 77": (clip, lambda: clip_tokenizer(600, 77)),
    "clip, tokenizer says 16": (clip, lambda: clip_tokenizer(600, 16)),
    "siglip": (siglip, lambda: byte_tokenizer(lowercase=True, model_input_names=["input_ids"])),
    "siglip 2 with gemma's tokenizer": (siglip, gemma_tokenizer),
    "siglip with clip's tokenizer": (siglip, lambda: clip_tokenizer(600, 77)),
    "altclip": (altclip, lambda: byte_tokenizer(lowercase=False)),
}


def save_family(name, folder):
    """Write the model and its processor as others would, and return the folder."""
    make, tokenizer = FAMILIES[name]
    torch.manual_seed(0)
    make().eval().save_pretrained(folder)
    if make is siglip:
        processor = SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer())
    else:
        pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        processor = CLIPProcessor(pictures, tokenizer())
    processor.save_pretrained(folder)
    return folder
