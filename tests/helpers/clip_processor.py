"""Processors of a small CLIP, and rows for them."""

from types import SimpleNamespace

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from hf_clip_kd.models.tokenizer import clip_tokenizer


def clip_images(size=32, cls=CLIPImageProcessorPil, **options):
    return cls(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **options)


def siglip_images(size=32, cls=SiglipImageProcessorPil, **options):
    return cls(size={"height": size, "width": size}, **options)


def plain(size, **options):
    return clip_images(size, image_mean=[0, 0, 0], image_std=[1, 1, 1], **options)


def processor(image_processor=None, tokenizer=None, **options):
    return SimpleNamespace(
        image_processor=image_processor or clip_images(), tokenizer=tokenizer or clip_tokenizer(2048, 24), **options
    )


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def rows(n=6, text="a cat"):
    return [{"image": noise(40 + i, 50 - i, i), "text": text} for i in range(n)]
