"""Untrained real LLaVA in miniature, with its own tokenizer. Its answers are nonsense, but depend on all inputs."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.models import TimmVisionConfig

SIDE, PATCH = 32, 8
# String content, as lmms-eval's simple adapter sends it, or a list of parts; both give the same text.
CHAT = (
    "{% for message in messages %}{{ message.role }} : "
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %} <end> "
    "{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)


def make_tokenizer():
    rows = load_shapes("test", size=600, vqa=True)
    words = {
        word for row in rows for text in (row["question"], *row["answers"]) for word in text.replace("?", " ").split()
    }
    words = ["<pad>", "<end>", "<unk>", "<image>", "user", "assistant", ":", "?", *sorted(words)]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<end>", unk_token="<unk>", padding_side="right"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def make_llava(tower="clip", seed=1, restless=6.0):
    """Make a model, float32 and in eval mode, and its processor.

    Args:
        tower: `"clip"`, with a class token, or `"timm"`, a convnet in our own class.
        seed: Seed of the weights.
        restless: Factor on the weights' scale, so that answers differ between questions and images.
    """
    tokenizer = make_tokenizer()
    if tower == "clip":
        vision = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=PATCH,
        )
        patch, layer, strategy, prefix = PATCH, -2, "default", 1
    else:
        vision = TimmVisionConfig(
            architecture="test_resnet", image_size=SIDE, patch_size=32, hidden_size=96, pooled_size=96,
            num_hidden_layers=5, grid=[1, 1],
        )  # fmt: skip
        patch, layer, strategy, prefix = 32, -1, "full", 0
    text = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=layer,
        vision_feature_select_strategy=strategy,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        parts = [model.model.language_model, model.model.multi_modal_projector]
        parts += [model.model.vision_tower] if tower == "clip" else []  # timm's own weights are not that timid
        for parameter in (parameter for part in parts for parameter in part.parameters()):
            if parameter.ndim > 1:
                parameter.mul_(restless)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    square = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=square, do_center_crop=False, crop_size=square),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=prefix,
        chat_template=CHAT,
    )
    return model, processor
