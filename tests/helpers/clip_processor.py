"""The processor of a small CLIP."""

from types import SimpleNamespace

from transformers import (
    CLIPImageProcessorPil,
)

from hf_clip_kd.models.tokenizer import clip_tokenizer


def clip_images(size=32, cls=CLIPImageProcessorPil, **options):
    return cls(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **options)


def processor(image_processor=None, tokenizer=None, **options):
    return SimpleNamespace(
        image_processor=image_processor or clip_images(), tokenizer=tokenizer or clip_tokenizer(2048, 24), **options
    )
