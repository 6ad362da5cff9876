"""Frozen readers of image tokens: the language side of a LLaVA, or a caption decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig

from ...losses.features import FeatureRequest
from ...models.loader_faults import reason_of
from ..base import as_dtype
from ..lifted import LiftedTeacher
from .answering import with_answers
from .base import Reader
from .captioner import Captioner, CaptionerConfig, CaptionerReader
from .llava import LlavaReader

TEACHER = "{teacher}"  # It stands for the teacher's folder in the name of a reader.

AutoConfig.register(CaptionerConfig.model_type, CaptionerConfig, exist_ok=True)

# Type of the model in a folder -> the class that reads with it.
READERS: dict[str, type[Reader]] = {"llava": LlavaReader, CaptionerConfig.model_type: CaptionerReader}


def load_reader(
    name: str | os.PathLike,
    *,
    layers: int | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Reader:
    """
    Load a frozen reader.

    Args:
        name (`str` or `os.PathLike`): Folder or Hub id of a LLaVA, or of a caption decoder of
            recipes/train_captioner.py.
        layers (`int`, *optional*): Number of the first layers of the language model to read with. Default is all.
        dtype (`str` or `torch.dtype`, *optional*):
            Type of its weights and of its computation. The default is float32 weights that follow the autocast.
        device (`str` or `torch.device`, *optional*): Its device. By default the trainer chooses.

    Raises:
        ValueError: There is no reader of that name, it lacks weights, or it has not so many layers.
    """
    name = os.fspath(name)
    try:
        kind = AutoConfig.from_pretrained(name).model_type
    except Exception as error:  # A damaged file makes loaders raise errors of any type.
        kind = reason_of(error)
    if kind not in READERS:
        raise ValueError(
            f"The reader {name!r} cannot be loaded ({kind}). Allowed are folders and Hub ids of a model of type "
            f"{', '.join(READERS)}. Train one on the teacher: `python recipes/train_captioner.py "
            f"--teacher_model_name_or_path TEACHER --output_dir {name}`."
        )
    return READERS[kind](name, layers=layers, dtype=as_dtype(dtype), device=device)


def load_readers(request: FeatureRequest, teacher: object = None, **options) -> list[Reader]:
    """
    Load the readers that losses name.

    Args:
        request ([`FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].
        teacher (*optional*): The teacher, as for [`name_of`].
        options: Arguments of [`load_reader`].

    Raises:
        ValueError: as for [`name_of`] and [`load_reader`].
    """
    named = [(name_of(name, teacher), layers) for name, layers in request.readers or ()]
    return [load_reader(name, layers=layers, **options) for name, layers in named]


def readers_for(teacher: Any, request: FeatureRequest, readers: Sequence[Reader] | None = None) -> list[Reader]:
    """
    Return the readers of a training: ready ones, or those that its losses name. They are checked.

    Args:
        teacher ([`Teacher`], *optional*): The teacher, prepared to give its tokens.
        request ([`FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].
        readers (`Sequence[Reader]`, *optional*): Ready readers.

    Raises:
        ValueError: as for [`load_readers`] and [`check_readers`].
    """
    if teacher is None or request.readers is None:
        return []
    found = load_readers(request, teacher) if readers is None else list(readers)
    check_readers(found, teacher, request.teacher_reads)
    return found


def name_of(name: str, teacher: object) -> str:
    """
    Return the name of a reader, with the folder of its teacher in the place of `{teacher}`.

    Args:
        name (`str`): The name as a loss has it.
        teacher (`str`, `Mapping` or [`Teacher`], *optional*): A teacher, or what [`load_teacher`] takes. The folder of
            a lifted teacher is that of its tokens.

    Raises:
        ValueError: `{teacher}` stands in the name, and there is no teacher, or it is an ensemble or has no name.
    """
    if TEACHER not in name:
        return name
    folder = teacher.tokens if isinstance(teacher, LiftedTeacher) else teacher
    if isinstance(folder, Mapping):
        folder = folder.get("tokens_from", folder.get("name"))
    folder = getattr(folder, "name_or_path", folder)
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(
            f"The reader {name!r} lies in the folder of the teacher, and this teacher has none: it is of type "
            f"{type(teacher).__name__}. A teacher with a folder is a name, or a mapping with `name` or `tokens_from`. "
            "Write the folder of the reader: `losses={'reader': {'reader': FOLDER}}`, of an ensemble a list of them."
        )
    return name.replace(TEACHER, os.fspath(folder))


def check_readers(readers: Sequence[Reader], teacher: Any, layers: Sequence[int]) -> None:
    """
    Check that readers were trained on what a teacher gives.

    Args:
        readers (`Sequence[Reader]`): Readers of one teacher, or one for each teacher of an ensemble.
        teacher ([`Teacher`]): The teacher, prepared to give its tokens.
        layers (`Sequence[int]`): The layers whose tokens it gives.

    Raises:
        ValueError: A reader expects tokens of another width or layer, or there is not one for each teacher, or none.
            Or a cache has stored the answers of other readers.
    """
    dims = teacher.dims
    if not readers:
        raise ValueError(
            "The loss 'reader' has no reader. It needs the folder of a LLaVA or caption decoder. Name it: "
            "`losses={'reader': {'reader': FOLDER}}`, or pass `readers=[...]` to the trainer."
        )
    if dims.members and len(readers) != len(dims.members):
        raise ValueError(
            f"There are {len(readers)} readers for {len(dims.members)} teachers. Each teacher of an ensemble has its "
            "own. Name them in the order of the teachers: `losses={'reader': {'reader': [FIRST, SECOND]}}`."
        )
    for reader, own in zip(readers, dims.members or [dims] * len(readers), strict=True):
        given = {layer: own.at(layer).token_dim for layer in layers}
        if given.get(reader.layer_of(layers)) != reader.token_dim:
            told = ", ".join(f"{width} wide of layer {layer}" for layer, width in given.items()) or "none"
            raise ValueError(
                f"The reader {reader.name!r} reads tokens {reader.token_dim} wide of layer {reader.layer}. The "
                f"teacher gives tokens: {told}. They must be the same tower's. Give "
                f"the teacher that the reader was trained on, and `teacher_layer: {reader.layer}` for the losses."
            )
    stored = getattr(teacher, "manifest", {}).get("answers")
    if stored is not None and stored["readers"] != [reader.identity()["weights"] for reader in readers]:
        raise ValueError(
            f"The teacher cache {str(teacher.folder)!r} holds the answers of other readers. It serves those that it "
            "was written with. Name them in `losses`, or write a cache with yours: `recipes/cache_teacher.py`."
        )


__all__ = [
    "READERS",
    "Captioner",
    "CaptionerConfig",
    "Reader",
    "check_readers",
    "load_reader",
    "load_readers",
    "name_of",
    "readers_for",
    "with_answers",
]
