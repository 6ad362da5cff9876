"""A model with known embeddings, data sets for it, and recalls by brute force."""

from types import SimpleNamespace

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage


class KnownModel(torch.nn.Module):
    """Image i has the embedding `images[i]`, text t the embedding `texts[t]`."""

    def __init__(self, images, texts):
        super().__init__()
        self.images = torch.nn.Parameter(torch.as_tensor(images))
        self.texts = torch.nn.Parameter(torch.as_tensor(texts))
        self.dropout = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.BatchNorm1d(2).eval()

    def get_image_features(self, pixel_values):
        return self.dropout(self.images[pixel_values])

    def get_text_features(self, input_ids, attention_mask=None):
        assert not torch.is_grad_enabled()
        return SimpleNamespace(pooler_output=self.dropout(self.texts[input_ids]))


def known_processor(texts):
    """Reads the number of an image from its colour, and that of a text from its place in `texts`."""

    def image_processor(images, return_tensors):
        assert all(image.mode == "RGB" for image in images)
        pixels = [image.getpixel((0, 0)) for image in images]
        return {"pixel_values": torch.tensor([red + 256 * green for red, green, _ in pixels])}

    def tokenizer(batch, padding, truncation, max_length, return_tensors):
        return {"input_ids": torch.tensor([texts.index(text) for text in batch])}

    return SimpleNamespace(image_processor=image_processor, tokenizer=tokenizer, context_length=8)


def numbered_images(n):
    return [PILImage.new("RGB", (2, 2), (i % 256, i // 256, 0)) for i in range(n)]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_labelled(labels, names):
    return Dataset.from_dict(
        {"image": numbered_images(len(labels)), "label": labels},
        features=Features({"image": Image(), "label": ClassLabel(names=names)}),
    )


def make_captioned(captions):
    text = Value("string") if isinstance(captions[0], str) else List(Value("string"))
    return Dataset.from_dict(
        {"image": numbered_images(len(captions)), "text": captions},
        features=Features({"image": Image(), "text": text}),
    )


def brute_force_recalls(images, texts, owner):
    """CLIP_benchmark's definition, query by query."""
    scores = unit(texts.astype(np.float64)) @ unit(images.astype(np.float64)).T
    recalls = {}
    for k in (1, 5, 10):
        found = [owner[t] in np.argsort(-scores[t])[:k] for t in range(len(texts))]
        recalls[f"image_retrieval_recall@{k}"] = np.mean(found)
        found = [any(owner[t] == i for t in np.argsort(-scores[:, i])[:k]) for i in range(len(images))]
        recalls[f"text_retrieval_recall@{k}"] = np.mean(found)
    return recalls
