"""Image towers that transformers loads: a vision model, or the tower of a dual encoder or vision-language model."""

import inspect
import os
from functools import partial
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from .completeness import REPORTED, check_complete
from .loader_faults import loader_faults, reason_of
from .loading import REQUIRED_METHODS
from .names import LIBRARY_FORMS
from .vlm_tower import RULE, ProjectedTower, is_vlm, load_projected_tower, load_vlm_tower, square_view

FORMS = (
    "a model, a preset of list_models(), a folder or Hub id of a dual encoder, a vision transformer or a LLaVA, "
    f"{LIBRARY_FORMS}"
)


def load_pretrained_tower(
    name: str, trust_remote_code: bool, *, projection: bool = False
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    Load the image tower in a folder or at a Hub id, in fp32, and its image processor.

    With `projection`, a tower that was saved with a projection (`CLIPVisionModelWithProjection`) keeps it. One that
    was saved without a pooler (`ViTForImageClassification`) has none. The tower of a LLaVA is as it was trained there,
    see `tune_vision_tower`.

    Raises:
        ValueError: There is none, it has not all its weights, or no image processor.
    """
    with loader_faults(lambda error: cannot_load(name, error)):
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    try:
        tower = (
            load_vlm_tower(name, trust_remote_code)
            if is_vlm(config)
            else _load(name, config, trust_remote_code, projection)
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(cannot_load(name, error)) from error
    return tower, load_image_processor(name, config, trust_remote_code)


def load_projected(
    name: str, config: PreTrainedConfig, trust_remote_code: bool
) -> tuple[ProjectedTower, BaseImageProcessor]:
    """
    Load the tower and the projector of a vision-language model, and its image processor, as [`load_pretrained_tower`].

    `config` is the configuration of the model, which the caller has read to know what it is.

    Raises:
        ValueError: As there.
    """
    try:
        found = load_projected_tower(name, trust_remote_code)
    except (OSError, RuntimeError) as error:
        raise ValueError(cannot_load(name, error)) from error
    return found, load_image_processor(name, config, trust_remote_code)


def load_image_processor(name: str, config: PreTrainedConfig, trust_remote_code: bool) -> BaseImageProcessor:
    """
    Load the image processor of a tower.

    Raises:
        ValueError: There is none.
    """

    def message(error: Exception) -> str:
        return (
            f"{name!r} has a tower but no image processor that can be loaded ({reason_of(error)}). It must lie beside "
            "the model. Call image_processor.save_pretrained(...) into that folder."
        )

    with loader_faults(message):
        # transformers prefers the torchvision backend whatever was saved. Its pixels are not those of training.
        image_processor = AutoImageProcessor.from_pretrained(name, backend="pil", trust_remote_code=trust_remote_code)
    return square_view(image_processor, config) if is_vlm(config) else image_processor


def _load(name: str, config: PreTrainedConfig, trust_remote_code: bool, projection: bool) -> PreTrainedModel:
    """Load a vision model, or the image tower of a dual encoder."""
    # The check comes before the weights are read. Remote code is in no table, and is checked once it is loaded.
    if type(config) in MODEL_MAPPING:
        check_is_vision(MODEL_MAPPING[type(config)], repr(name))
    with loader_faults(lambda error: cannot_load(name, error)):
        # A dual encoder, or remote code, is AutoModel's.
        load = partial((vision_class(config, projection) or AutoModel).from_pretrained, name)
        options = {"dtype": torch.float32, "trust_remote_code": trust_remote_code, **REPORTED}
        model, report = load(**options)
        if lacks_pooler_alone(model, report):
            model, report = load(add_pooling_layer=False, **options)
    tower = image_tower(model, repr(name))
    check_complete(report, repr(name), tower, RULE, prefix="" if tower is model else "vision_model.")
    return tower


def lacks_pooler_alone(model: PreTrainedModel, report: dict[str, Any]) -> bool:
    """Tell if weights are whole but for a pooler, which models with another head (a classifier) never had."""
    missing = report["missing_keys"]
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    return bool(missing) and optional and all(key.startswith("pooler.") for key in missing)


def vision_class(config: PreTrainedConfig, projection: bool = False) -> type[PreTrainedModel] | None:
    """
    Return the class of transformers for the vision model of this configuration; `None` if it is of another kind.

    The class that the weights were saved from counts where AutoModel knows none (MetaCLIP 2's towers). With
    `projection`, it also counts if it has one.
    """
    known = MODEL_MAPPING[type(config)] if type(config) in MODEL_MAPPING else None
    saved = getattr(transformers, (config.architectures or [""])[0], None)
    if saved is not None and (known is None or (projection and saved.__name__.endswith("WithProjection"))):
        known = saved
    return known if known is not None and is_vision_model(known) else None


def cannot_load(name: str, error: Exception) -> str:
    reason = reason_of(error)
    where = "The folder" if os.path.isdir(name) else "No folder here, and on the Hugging Face Hub"
    return (
        f"{where} {name!r} cannot be loaded as a tower ({reason}). Allowed are {FORMS}. Check the name and the "
        "network, or pass trust_remote_code=True if it brings its own code and you trust it."
    )


def image_tower(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the image tower in a dual encoder, or the vision model itself."""
    check_is_vision(type(model), name)
    return model.vision_model if is_dual_encoder(type(model)) else model


def is_dual_encoder(model_class: type) -> bool:
    return all(hasattr(model_class, method) for method in REQUIRED_METHODS)


def is_vision_model(model_class: type) -> bool:
    """Tell if a model reads images alone. Towers of vision-language models do not name their main input."""
    if is_dual_encoder(model_class) or not hasattr(model_class, "forward"):
        return False
    if getattr(model_class, "main_input_name", "") == "pixel_values":
        return True
    inputs = list(inspect.signature(model_class.forward).parameters)
    return inputs[1:2] == ["pixel_values"] and "input_ids" not in inputs


def check_is_vision(model_class: type, name: str):
    if not is_dual_encoder(model_class) and not is_vision_model(model_class):
        raise ValueError(
            f"The tower {name} holds a {model_class.__name__}, which is neither a dual encoder nor a vision model. "
            f"Allowed are {FORMS}. Give the model whose image tower you want."
        )


__all__ = ["image_tower", "is_dual_encoder", "is_vision_model", "load_pretrained_tower", "load_projected"]
