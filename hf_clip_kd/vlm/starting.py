"""Model and data that a run of the recipe `train_vlm.py` starts from."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import datasets
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration, LlavaProcessor

from ..data import load_instruct
from ..data.reading.images import BrokenImageError
from ..data.shapes.instruct import load_shapes_instruct
from ..models.completeness import SAVE_RULE, load_complete
from .adapters import quantization
from .arguments import TrainVLMArguments
from .build import build_llava
from .feature_scale import FeatureScale, measure_features
from .image_modes import square_image_processor
from .pictures import training_picture
from .saving import load_llava
from .tiles import has_tiles

logger = logging.getLogger(__name__)

# Number of images for the scale of the tower's features.
CALIBRATION = 64


def load_data(script: TrainVLMArguments) -> datasets.Dataset:
    """Load the conversations of a run."""
    if script.dataset_name == "shapes":
        return load_shapes_instruct(script.split, script.max_train_samples)
    return load_instruct(
        script.dataset_name,
        image_folder=script.image_folder,
        data_files=script.data_files,
        split=script.split,
        max_samples=script.max_train_samples,
    )


def build(script: TrainVLMArguments, quantize: bool) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return a LLaVA and its processor, from the first stage's folder or from tower and language model."""
    dtype = getattr(torch, script.dtype)
    if script.model_name_or_path is not None:
        model, processor = load_llava(
            script.model_name_or_path, dtype=dtype, trust_remote_code=script.trust_remote_code
        )
        if script.image_mode is not None and has_tiles(model):
            raise ValueError(
                f"`image_mode={script.image_mode}` with {script.model_name_or_path!r}, which cuts images into tiles. "
                "Tiles keep the shape of an image, so it must be left out. Start without `--image_mode`."
            )
        if script.image_mode is not None:
            processor.image_processor = square_image_processor(processor.image_processor, script.image_mode)
        return model, processor
    language_model, tokenizer = script.language_model, None
    if quantize:
        tokenizer = AutoTokenizer.from_pretrained(language_model)
        language_model = load_complete(
            AutoModelForCausalLM,
            language_model,
            SAVE_RULE,
            dtype=dtype,
            quantization_config=quantization(script.quantization, dtype),
        )
    if script.vision_tower is None:
        # A blind model never calls its tower.
        script = replace(script, vision_tower="test-vit", image_size=None, image_tokens=None, token_reduction=None)
    return build_llava(
        script.vision_tower,
        language_model,
        tokenizer=tokenizer,
        vision_feature_layer=script.vision_feature_layer,
        image_mode=script.image_mode or "square",
        image_size=script.image_size,
        image_tokens=script.image_tokens,
        token_reduction=script.token_reduction,
        tiles=script.tiles,
        chat_template=script.chat_template,
        dtype=dtype,
        trust_remote_code=script.trust_remote_code,
    )


def feature_scale(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, dataset: datasets.Dataset
) -> FeatureScale:
    """
    Return a scale that normalises the tower's features, measured on the first 64 readable images of the data.

    The collator judges the others, by `on_bad_sample`.

    Raises:
        ValueError: There is no readable image.
    """
    images = list(islice(_readable(dataset), CALIBRATION))
    if not images:
        raise ValueError(
            f"`normalize_features` finds no readable image in {len(dataset)} rows of data. It measures features on "
            f"up to {CALIBRATION} of them. Repair the images, correct `image_folder`, or leave the flag out."
        )
    pixels = processor.image_processor(images=images, return_tensors="pt")
    statistics = measure_features(model, **pixels)
    logger.info(
        "Features of %d images: mean %.3g, std %.3g, largest %.3g; each channel is scaled by a power of two.",
        len(images),
        statistics.mean,
        statistics.std,
        statistics.max,
    )
    return FeatureScale(model, statistics.power_of_two_scale())


def _readable(dataset: datasets.Dataset) -> Iterator[Image.Image]:
    """Yield the pictures of the rows, without those that cannot be read."""
    for row in dataset.select_columns("images"):
        for image in row["images"]:
            with contextlib.suppress(BrokenImageError):
                yield training_picture(image)


__all__ = ["build", "feature_scale", "load_data"]
