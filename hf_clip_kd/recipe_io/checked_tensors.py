"""Files of tensors with a checksum of their content, which finds flipped bits."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from operator import not_
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from .foreign import ForeignFileError
from .results import write_whole

CHECKSUM = "checksum"
"""Entry of a file's metadata. Files of format version 1 have none, and are read without a check."""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors and their checksum to a safetensors file, whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(tensors, (metadata or {}) | {CHECKSUM: checksum(tensors)}))


def read_metadata(path: Path, fix: str) -> dict[str, str]:
    """
    Read the metadata of a safetensors file.

    Raises:
        ForeignFileError: The file is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"it cannot be read ({error})", fix) from error


def read_tensors(
    path: Path, *, fix: str, check: bool = True, is_old: Callable[[dict[str, str]], bool] = not_
) -> dict[str, Tensor]:
    """
    Map all tensors of a safetensors file into memory; only the indexed parts are read.

    Args:
        path (`Path`): File.
        fix (`str`): Sentence that says what to do with a damaged file, for errors.
        check (`bool`, *optional*, defaults to `True`): Compare with the checksum, which reads the whole file once.
        is_old (`Callable`, *optional*):
            Metadata -> whether they are those of format version 1, without a checksum. By default these are empty.

    Raises:
        ForeignFileError: The file is no safetensors file, or its content is not what was written.
    """
    metadata = read_metadata(path, fix)
    stored = metadata.get(CHECKSUM)
    if check and stored is None and not is_old(metadata):
        raise _damaged(path, f"its checksum is missing, and it has {sorted(metadata)}", fix)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if check and stored is not None and (found := checksum(tensors)) != stored:
        raise _damaged(path, f"its checksum is {found}, and {stored} was written", fix)
    return tensors


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return the CRC-32 of names, types, shapes and bytes, as text. It finds accidents, and stops no attacker."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(uint8).numpy(), value)
    return f"{value:08x}"


def _damaged(path: Path, problem: str, fix: str) -> ForeignFileError:
    allowed = "It must hold the tensors that were written."
    return ForeignFileError(path, problem, allowed=allowed, fix=fix)
