"""
`shapes`: a small world of images with captions, class prompts, questions and answers, drawn without a download.

Each image shows one to four coloured, textured shapes on a noisy background. A quarter of the image holds at most one.
An image depends only on (split, seed, index), on every platform.
"""

import hashlib
from functools import partial

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, List, NamedSplit, Value

from .drawn import drawn
from .render import render
from .scenes import CHANGES, CHUNK, COLORS, PAIRED, SHAPES, SPLITS, Draws, changes, draw_scenes
from .text import (
    QUESTION_TYPES,
    SHAPES_CLASS_NAMES,
    SHAPES_TEMPLATES,
    captions,
    class_labels,
    questions,
    synthetic_captions,
)

DEFAULT_SIZES = {
    "train": 40_000,
    "validation": 2_000,
    "test": 2_000,
    "zero_shot": 2_000,
    "retrieval": 1_000,
    "compositional": 3_000,
}
VQA_SPLITS = ("train", "validation", "test")
MIN_IMAGE_SIZE = 16
# Pixels drawn at once. This number keeps the canvas and its temporaries in the caches of a core.
BATCH_PIXELS = 128 * 32 * 32


def load_shapes(split="train", size=None, seed=0, image_size=32, vqa=False, synthetic_text=False, questions=False):
    """
    Make a split of the world `shapes`.

    A data set of size k equals the first k rows of a longer one. Another `image_size` shows the same scenes. Pictures
    are drawn once on a machine, 512 at a time. They are then read from the folder `shapes` in `HF_DATASETS_CACHE`.

    Args:
        split (`str`, *optional*, defaults to `"train"`):
            - `"train"`, `"validation"`, `"test"`: 1 to 4 objects per image;
            - `"zero_shot"`: one object, with its class. Each run of 64 images holds each class once;
            - `"retrieval"`: 2 to 4 objects;
            - `"compositional"`: 2 objects. Two rows after each other are a pair that differs in a single thing. The
              caption of each is false about the other.

            The splits share no image.
        size (`int`, *optional*):
            Number of rows. The default is 40,000 for `"train"`, 1,000 for `"retrieval"`, 3,000 for `"compositional"`
            and 2,000 for the others.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the world, at least 0. Another seed makes another world of the same kind.
        image_size (`int`, *optional*, defaults to `32`):
            Side of the images in pixels, at least 16. Below 32 textures get hard to see.
        vqa (`bool`, *optional*, defaults to `False`):
            One row per question instead of one per image. Six rows after each other show the same image, one for each
            type of question. `"zero_shot"`, `"retrieval"` and `"compositional"` have no questions: their number of
            objects gives answers away.
        synthetic_text (`bool`, *optional*, defaults to `False`):
            Add a second caption of each image in other words, as from a captioning model. All else stays the same.
        questions (`bool`, *optional*, defaults to `False`):
            Add the six questions of each image to its row, for readers. `vqa` makes rows of them instead.

    Returns:
        [`~datasets.Dataset`] with the columns
        - `image` (RGB) and `text` (one caption);
        - for `"zero_shot"`: `label`, a [`~datasets.ClassLabel`] over `SHAPES_CLASS_NAMES`;
        - for `"compositional"`: `pair`, the number of the pair, and `change`. That is `"swapped_colors"`,
          `"swapped_places"` or `"changed_attribute"` (of colour, shape, texture and size in turn);
        - with `vqa`: `question`, `answers` (list of the right words, here one) and `question_type`;
        - with `synthetic_text`: `synthetic_text` (one caption);
        - with `questions`: `question` (six of them) and `answers` (for each the list of right words).

    Raises:
        `ValueError`: if the split does not exist, or has no questions.
        `ValueError`: if the size, seed or image size is too small.

    Example:

    ```python
    >>> from hf_clip_kd.data.shapes import load_shapes
    >>> load_shapes("zero_shot", size=64)
    Dataset({
        features: ['image', 'text', 'label'],
        num_rows: 64
    })
    ```
    """
    _check(split, size, seed, image_size, vqa or questions)
    rows = DEFAULT_SIZES[split] if size is None else size
    per_image = len(QUESTION_TYPES) if vqa else 1
    images = -(-rows // per_image)
    features = _features(split, vqa, synthetic_text, questions)
    tables = []
    for chunk in range(-(-images // CHUNK)):
        wanted = min(CHUNK, images - chunk * CHUNK)
        scenes = draw_scenes(seed, split, chunk)[:wanted]
        draw = partial(_pixels, scenes, image_size, Draws(seed, SPLITS[split][0], chunk, stream=1))
        pixels = drawn(split, seed, chunk, image_size, draw) if wanted == CHUNK else draw()
        tables.append(_table(scenes, pixels, features, vqa, first=chunk * CHUNK))
    table = pa.concat_tables(tables).slice(0, rows)
    # `datasets` hashes an in-memory table byte by byte unless it gets a fingerprint.
    key = f"shapes-1 {split} {rows} {seed} {image_size} {vqa}"
    if synthetic_text:
        key += " synthetic_text"
    if questions:
        key += " questions"
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Dataset(table, info=DatasetInfo(features=features), split=NamedSplit(split), fingerprint=fingerprint)


def _features(split, vqa, synthetic_text, questions):
    features = {"image": Image(), "text": Value("string")}
    if split == "zero_shot":
        features["label"] = ClassLabel(names=list(SHAPES_CLASS_NAMES))
    if split == PAIRED:
        features |= {"pair": Value("int64"), "change": Value("string")}
    if vqa:
        features |= {"question": Value("string"), "answers": List(Value("string")), "question_type": Value("string")}
    elif questions:
        features |= {"question": List(Value("string")), "answers": List(List(Value("string")))}
    if synthetic_text:
        features["synthetic_text"] = Value("string")
    return Features(features)


def _pixels(scenes, image_size, noise):
    """Draw scenes: uint8 (n, S, S, 3). `noise` goes on from batch to batch."""
    count, batch = len(scenes.count), max(1, BATCH_PIXELS // image_size**2)
    parts = [scenes[start : start + batch] for start in range(0, count, batch)]
    return np.concatenate(
        [render(part, image_size, noise.bytes(len(part.count), image_size * image_size * 3)) for part in parts]
    )


def _table(scenes, pixels, features, vqa, first):
    """Return the rows of scenes with their pixels. `first` is the number of the first image in its split."""
    texts = captions(scenes)
    columns = {"label": class_labels(scenes)[:, 0]} if "label" in features else {}
    if "pair" in features:
        rows = first + np.arange(len(scenes.count))
        columns = {"pair": rows // 2, "change": [CHANGES[change] for change in changes(rows)]}
    if vqa:
        asked, answers, types = zip(*questions(scenes), strict=True)
        columns = {"question": asked, "answers": [[answer] for answer in answers], "question_type": types}
        pixels = np.repeat(pixels, len(QUESTION_TYPES), axis=0)
        texts = [text for text in texts for _ in QUESTION_TYPES]
    elif "question" in features:
        asked, answers, _ = zip(*questions(scenes), strict=True)
        starts = range(0, len(asked), len(QUESTION_TYPES))
        columns = {"question": [asked[i : i + len(QUESTION_TYPES)] for i in starts]}
        columns["answers"] = [[[answer] for answer in answers[i : i + len(QUESTION_TYPES)]] for i in starts]
    if "synthetic_text" in features:
        repeats = len(QUESTION_TYPES) if vqa else 1
        columns["synthetic_text"] = [text for text in synthetic_captions(scenes) for _ in range(repeats)]
    arrays = [_encode(pixels), pa.array(texts, pa.string())]
    arrays += [pa.array(columns[name], features[name].pa_type if name == "label" else None) for name in columns]
    return pa.table(arrays, schema=features.arrow_schema)


def _encode(pixels):
    """
    Encode uint8 (n, S, S, 3) as the column of a [`~datasets.Image`].

    The format is PPM, a header and the raw pixels. It decodes three times as fast as PNG, and PNG cannot compress
    noise.
    """
    n, height, width, _ = pixels.shape
    header = np.frombuffer(b"P6 %d %d 255\n" % (width, height), dtype=np.uint8)
    files = np.concatenate([np.broadcast_to(header, (n, len(header))), pixels.reshape(n, -1)], axis=1)
    offsets = np.arange(n + 1, dtype=np.int32) * files.shape[1]
    encoded = pa.BinaryArray.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(files)])
    return pa.StructArray.from_arrays([encoded, pa.nulls(n, pa.string())], ["bytes", "path"])


def _check(split, size, seed, image_size, vqa):
    if split not in SPLITS:
        raise ValueError(
            f"load_shapes got split={split!r}, which is not a split of `shapes`. "
            f"Its splits are {', '.join(map(repr, SPLITS))}. Use for example load_shapes('train')."
        )
    if vqa and split not in VQA_SPLITS:
        raise ValueError(
            f"load_shapes got vqa=True with split={split!r}, whose number of objects gives answers away. "
            f"Questions exist for {', '.join(map(repr, VQA_SPLITS))}. Use load_shapes('test', vqa=True)."
        )
    if size is not None and size < 1:
        raise ValueError(
            f"load_shapes got size={size}, and a data set needs rows. It must be at least 1. "
            f"Leave it out for the default: load_shapes({split!r}) has {DEFAULT_SIZES[split]:,}."
        )
    if seed < 0:
        raise ValueError(
            f"load_shapes got seed={seed}, which cannot seed anything. "
            f"It must be an integer of at least 0. Use for example load_shapes({split!r}, seed=0)."
        )
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(
            f"load_shapes got image_size={image_size}, at which shapes cannot be told apart. "
            f"It must be at least {MIN_IMAGE_SIZE} pixels. Use load_shapes({split!r}, image_size=32)."
        )


__all__ = ["CHANGES", "COLORS", "QUESTION_TYPES", "SHAPES", "SHAPES_CLASS_NAMES", "SHAPES_TEMPLATES", "load_shapes"]
