"""Towers from timm: `timm:NAME` with the weights that timm has, `timm:NAME//FILE` with those of a file."""

import difflib
import math
import os

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import BaseImageProcessor
from transformers.image_utils import PILImageResampling
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..loader_faults import reason_of
from ..names import LIBRARIES, parse_name
from ..presets import measure_trunk
from ..timm_clip.configuration_timm_clip import TimmVisionConfig
from ..timm_clip.modeling_timm_clip import TimmVisionModel

FORMS = LIBRARIES["timm"].forms


def load_timm_tower(name: str) -> tuple[TimmVisionModel, BaseImageProcessor]:
    """
    Load a timm model with weights, and the preprocessing that timm names for it.

    Args:
        name (`str`): `timm:NAME` or `timm:NAME//FILE`; NAME may end in a tag, FILE is absolute or relative to the
            working directory.

    Raises:
        ValueError: timm has no such model or no weights of it, or the file does not fit.
    """
    parsed = parse_name(name)
    architecture, path = parsed.architecture, parsed.weights.removeprefix("/")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        raise ValueError(
            f"The tower {name!r} names no model of timm {timm.__version__}. Allowed is {FORMS}. "
            f"Close ones are {', '.join(close) or 'none'}."
        )
    state_dict = read_file(name, path) if path else pretrained_state_dict(name, architecture)
    trunk_config = timm.create_model(architecture, num_classes=0).pretrained_cfg
    tower = tower_of_trunk(architecture, state_dict, trunk_config["input_size"][-1], origin=name)
    return tower, timm_image_processor(trunk_config)


def read_file(name: str, path: str) -> dict[str, torch.Tensor]:
    # "timm:NAME//tmp/x" is an absolute path, as in "open_clip:ARCH//tmp/x", or one from here.
    found = [candidate for candidate in (path, f"/{path}") if os.path.isfile(candidate)]
    if not found or not path.endswith(".safetensors"):
        raise ValueError(
            f"There is no .safetensors file {path!r}, which the tower {name!r} names. Allowed is {FORMS}. "
            "Convert other files with safetensors.torch.save_file(model.state_dict(), 'checkpoint.safetensors')."
        )
    try:
        return load_file(found[0])
    except SafetensorError as error:
        raise ValueError(
            f"{path!r} of the tower {name!r} is no safetensors file ({error}). Allowed is {FORMS}. Write it again "
            "with safetensors.torch.save_file(model.state_dict(), 'checkpoint.safetensors')."
        ) from error


def pretrained_state_dict(name: str, architecture: str) -> dict[str, torch.Tensor]:
    try:
        # timm loads weights strictly only into a model with its own classifier.
        return timm.create_model(architecture, pretrained=True).state_dict()
    except Exception as error:  # timm, the Hub and its client have no error class in common
        raise ValueError(
            f"The weights of the tower {name!r} could not be had ({type(error).__name__}: {reason_of(error)}). "
            f"Allowed is {FORMS}. "
            f"Without network give their file: 'timm:{architecture}//path/to/model.safetensors'."
        ) from error


def tower_of_trunk(
    architecture: str,
    state_dict: dict[str, torch.Tensor],
    image_size: int,
    *,
    origin: str,
    model_args: dict | None = None,
) -> TimmVisionModel:
    """
    Build a [`TimmVisionModel`] with the weights of a timm model.

    Args:
        architecture (`str`), model_args (`dict`, *optional*): For `timm.create_model`.
        state_dict (`dict[str, torch.Tensor]`): Weights of that model; its classifier is left out.
        image_size (`int`): Side of its images, in pixels.
        origin (`str`): The name that the user gave, for the errors.

    Raises:
        ValueError: The weights are not those of this architecture.
    """
    config = {"architecture": architecture, "image_size": image_size, "model_args": model_args}
    facts = measure_trunk(TimmVisionConfig(**config), origin)
    tower = TimmVisionModel(TimmVisionConfig(**config, **facts))
    own = tower.trunk.state_dict()
    with torch.device("meta"):
        classifier = timm.create_model(architecture, **(model_args or {})).state_dict().keys() - own.keys()
    given = {key: value for key, value in state_dict.items() if key not in classifier}
    wrong = sorted(set(own) ^ set(given)) or [key for key in own if own[key].shape != given[key].shape]
    if wrong:
        raise ValueError(
            f"The weights of the tower {origin!r} are not those of timm's {architecture!r}: {len(wrong)} tensors are "
            f"missing, left over or of another shape (such as {wrong[0]}). A tower must have all its weights and no "
            "others. Name the architecture that they were trained as."
        )
    tower.trunk.load_state_dict(given)
    return tower.eval()


def timm_image_processor(pretrained_cfg: dict) -> CLIPImageProcessorPil:
    """
    Build the preprocessing that timm evaluates a model with.

    Its `crop_mode` is "center" (the shortest edge fits), "squash" (the whole image is warped) or "border" (the longest
    edge fits, on a square of the mean colour).
    """
    side, mean, mode = pretrained_cfg["input_size"][-1], pretrained_cfg["mean"], pretrained_cfg["crop_mode"]
    edge = math.floor(side / pretrained_cfg["crop_pct"])
    options = {
        "crop_size": {"height": side, "width": side},
        "resample": PILImageResampling[pretrained_cfg["interpolation"].upper()],
        "image_mean": list(mean),
        "image_std": list(pretrained_cfg["std"]),
    }
    if mode == "border":
        from ..open_clip.loading import OpenClipImageProcessor  # open_clip takes seconds to import.

        size = {"max_height": edge, "max_width": edge}
        return OpenClipImageProcessor(size=size, fill_color=round(255 * mean[0]), **options)
    size = {"height": edge, "width": edge} if mode == "squash" else {"shortest_edge": edge}
    return CLIPImageProcessorPil(size=size, **options)


def same_features(first: nn.Module, second: nn.Module, image_size: int) -> bool:
    """Tell if two timm models compute the same features of an image of noise."""
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(first.eval().forward_features(image), second.eval().forward_features(image))


__all__ = ["load_timm_tower", "same_features", "tower_of_trunk"]
