"""[`export_model`]: one folder that loads wherever people are."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, ProcessorMixin

from ..models import load_clip
from ..recipe_io.new_folder import new_folder
from .native import to_native, write_native
from .parity import Probe, ask_model, check, compare, make_probe
from .remote_code import ask_remote_code, write_remote_code
from .vlm import is_llava, write_llava

logger = logging.getLogger(__name__)

FORMATS = ("native", "remote-code", "open_clip", "onnx")
# Files that a run leaves beside its model, and that a card is made of.
FACTS = ("recipe.yaml", "training_args.json", "results", "cost.json", "representation.json", "card.json")


def export_model(
    folder: str | os.PathLike,
    output_dir: str | os.PathLike,
    formats: Sequence[str],
    *,
    quantize: bool = False,
    tolerance: float = 1e-4,
    images: Sequence | None = None,
    repo_id: str | None = None,
) -> dict[str, dict[str, float | bool]]:
    """
    Write a student's folder in other tools' forms, and check what each form computes.

    The root holds the model in fp32, its processor, `recipe.yaml` and `results`. The format `native` makes the model a
    class of transformers, `remote-code` adds its code. Both add the image tower alone (`vision_model/`). `open_clip`
    adds its configuration and weights, `onnx` the towers (`onnx/`). `parity.json` holds the returned report.

    The folder appears whole or not at all. A LLaVA takes one format, `native` or `remote-code`.

    Args:
        folder (`str` or `os.PathLike`): A dual encoder or a LLaVA, with its processor.
        output_dir (`str` or `os.PathLike`): The new folder; empty or not there yet.
        formats (sequence of `str`): Any of `native`, `remote-code`, `open_clip` and `onnx`.
        quantize (`bool`, *optional*, defaults to `False`): Adds 8-bit towers to `onnx`.
        tolerance (`float`, *optional*, defaults to 1e-4):
            The largest difference of a component of a unit-norm embedding. The limit of the 8-bit towers is a typical
            component, 1 / sqrt(D). The share of equal classes in the report tells their worth.
        images (sequence, *optional*): Pictures to compare on, such as the column of a dataset. Default is the
            embedded world's.
        repo_id (`str`, *optional*): Hub repository of the folder: `open_clip` finds the tokenizer by it
            (`hf-hub:`).

    Returns:
        `dict`: The differences of each format, see [`compare`]. The 8-bit towers are `onnx-int8`.

    Raises:
        ValueError: An unknown format, one that cannot hold the model, or a difference beyond the tolerance.

    Example:

    ```python
    >>> report = export_model("outputs/demo/distilled", "outputs/demo/exported", ["native", "open_clip"])
    ```
    """
    formats = check_formats(formats, quantize)
    with new_folder(output_dir) as root:
        if is_llava(Path(folder)):
            report = write_llava(root, Path(folder), formats, tolerance)
        else:
            report = write_dual_encoder(root, folder, formats, quantize, tolerance, images, repo_id)
        for name in FACTS:
            copy_fact(Path(folder) / name, root / name)
        (root / "parity.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def write_dual_encoder(root: Path, folder, formats, quantize, tolerance, images, repo_id) -> dict[str, dict]:
    """Write the formats one after the other, compare each before the next, and return the reports."""
    model, processor = load_clip(folder)
    model = model.float().eval()
    probe = make_probe(model, processor, images)
    expected = ask_model(model, processor, probe)
    write_root(root, model, processor, formats)
    report = {}
    for name in formats:
        for part, answer, limit in answers(name, root, model, processor, probe, quantize, tolerance, repo_id):
            report[part] = compare(expected, answer, limit)
            check(part, report[part])
            logger.info("Exported %s: %s", part, report[part])
    return report


def check_formats(formats: Sequence[str], quantize: bool) -> list[str]:
    formats = [formats] if isinstance(formats, str) else list(formats)
    if unknown := sorted(set(formats) - set(FORMATS)) or (not formats and ["nothing"]):
        raise ValueError(
            f"formats={formats!r} names {', '.join(unknown)}. Allowed are {', '.join(FORMATS)}. Write for example "
            "formats=['native', 'open_clip']."
        )
    if {"native", "remote-code"} <= set(formats):
        raise ValueError(
            "formats holds both 'native' and 'remote-code', and the model at the root can have only one form. Allowed "
            "is either. Take 'native' where it works, else 'remote-code'."
        )
    if quantize and "onnx" not in formats:
        raise ValueError(
            f"quantize=True asks for 8-bit ONNX towers, and formats={formats!r} has no 'onnx'. Allowed is both or "
            "neither. Add 'onnx'."
        )
    return [name for name in FORMATS if name in formats]


def write_root(root: Path, model: PreTrainedModel, processor: ProcessorMixin, formats: list[str]) -> None:
    if "native" in formats:
        write_native(root, to_native(model), processor)
    elif "remote-code" in formats:
        write_remote_code(root, model, processor)
    else:
        model.save_pretrained(root)
        processor.save_pretrained(root)


def answers(name: str, root: Path, model, processor, probe: Probe, quantize, tolerance, repo_id):
    """Write a format and yield its parts: name, [`Answer`] of the files in the folder, tolerance."""
    if name == "native":
        yield name, ask_model(*load_clip(root), probe), tolerance
    elif name == "remote-code":
        yield name, ask_remote_code(root, probe), tolerance
    elif name == "open_clip":
        from .open_clip import ask_open_clip, write_open_clip

        write_open_clip(root, model, processor, repo_id)
        yield name, ask_open_clip(root, probe), tolerance
    else:
        from .onnx import INT8_TOLERANCE, ask_onnx, write_onnx

        write_onnx(root, model, probe, quantize)
        yield name, ask_onnx(root, model, processor, probe), tolerance
        if quantize:
            answer = ask_onnx(root, model, processor, probe, "_int8")
            yield "onnx-int8", answer, INT8_TOLERANCE / answer.real_images.shape[1] ** 0.5


def copy_fact(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copyfile(source, target)


__all__ = ["FORMATS", "export_model"]
