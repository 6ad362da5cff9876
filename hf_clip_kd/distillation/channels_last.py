"""Memory format of kernels and images with the channels last, in which convnets are faster on a GPU."""

from typing import Any

import torch
from torch import nn

from .image_sizes import PIXELS


def lay_out_kernels(*networks: nn.Module | None) -> None:
    """Lay the kernels of convolutions out with the channels last, in place. A network may be `None`."""
    for network in networks:
        if network is not None:
            network.to(memory_format=torch.channels_last)


def lay_out_images(inputs: dict[str, Any]) -> dict[str, Any]:
    """
    Return inputs with their images laid out with the channels last, those for teachers, too.

    Args:
        inputs (`dict`): A collated batch. Images are `(batch, 3, height, width)`. Packed patches stay as they are.
    """
    images = {name: x for name, x in inputs.items() if name.endswith(PIXELS) and x.ndim == 4}
    return inputs | {name: x.contiguous(memory_format=torch.channels_last) for name, x in images.items()}
