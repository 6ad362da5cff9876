"""Checksum that two towers share only if their weights are the same, bit for bit."""

import hashlib

import torch
from torch import nn


def tower_checksum(module: nn.Module) -> str:
    """
    Compute the SHA-256 of the names, shapes, dtypes and bytes of all that `module` saves.

    The names are those inside the module. A tower therefore has the same checksum alone, in a dual encoder and in a
    LLaVA. Saving does not change it. A cast to another dtype does.

    Args:
        module (`nn.Module`): Tower on any device, for example `model.model.vision_tower` of a LLaVA.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        # NumPy has no bfloat16, so all tensors are read as bytes.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["tower_checksum"]
