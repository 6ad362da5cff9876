"""A few pictures with captions, two tiny teachers, and a cache of what they say."""

import io

import datasets
import numpy as np
from PIL import Image
from teacher_models import tiny_clip, tiny_siglip

import hf_clip_kd as kd

ROWS, CROPS, SEED = 22, 2, 3
COLORS = {"color_jitter": (0.3, 0.3, 0.3, 0.1), "gray_scale_prob": 0.2}
VIEWS = {"crop_scale": (0.3, 1.0), "flip": 0.5, "seed": SEED} | COLORS
FINGERPRINT = {"rows": ROWS, "samples": []}
FEATURES = datasets.Features(
    {
        "image": datasets.Image(decode=False),
        "text": datasets.List(datasets.Value("string")),
        "synthetic_text": datasets.List(datasets.Value("string")),
        "__index__": datasets.Value("int64"),
    }
)


def picture(seed, size=(40, 52)):
    file = io.BytesIO()
    # Every fourth picture is transparent in parts.
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 4 if seed % 4 == 1 else 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def rows():
    """Row 7 is broken; every second row has a second caption."""
    shapes, colors = ["circle", "square", "dog", "hill"], ["red", "green", "small", "large", "very large"]
    found = []
    for i in range(ROWS):
        image = {"bytes": b"no picture", "path": "broken.png"} if i == 7 else picture(i)
        texts = [f"a photo of a {colors[i % 5]} {shapes[i % 4]}", f"two {shapes[(i // 4) % 4]} on the {colors[i % 3]}"]
        generated = [f"the {colors[(i + 1) % 5]} {shapes[i % 4]}", f"a {shapes[(i + 1) % 4]}", "a hill"]
        found.append({"image": image, "text": texts[: 1 + i % 2], "synthetic_text": generated, "__index__": i})
    return found


def dataset():
    return datasets.Dataset.from_list(rows(), FEATURES)


def teacher(kind=tiny_clip):
    model, processor = kind()
    return kd.CLIPTeacher(model, processor=processor)


def ensemble(*weights):
    return kd.TeacherEnsemble([teacher(), teacher(tiny_siglip)], weights=list(weights) or [1.0, 2.0])


def writer(folder, teacher, data=None, views=None, **options):
    collator = kd.AugmentationCollator(
        teacher.processor, augmentations=CROPS, max_broken_fraction=1.0, **VIEWS | {"synthetic": True} | (views or {})
    )
    options = {"shard_size": 8, "batch_size": 3, "fingerprint": FINGERPRINT} | options
    return kd.CacheWriter(folder, teacher, collator, dataset() if data is None else data, **options)
