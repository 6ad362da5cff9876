"""One number that two towers share only if their weights are the same, bit for bit."""

import hashlib

import torch
from torch import nn


def tower_checksum(module: nn.Module) -> str:
    """
    SHA-256 of the names, shapes, dtypes and bytes of everything that `module` saves.

    The names are those inside the module, so a tower has the same checksum alone, in a dual encoder and in a LLaVA, before
    and after it is saved. A cast to another dtype is another tower.

    Args:
        module (`nn.Module`): For example `model.model.vision_tower` of a LLaVA; on any device.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        # Of bfloat16, NumPy knows no type: the bytes are taken as they lie.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["tower_checksum"]
