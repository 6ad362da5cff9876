"""Folders of trained models, as a recipe leaves them that trains one for another."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from .foreign import read_json

INDEX = "model.safetensors.index.json"
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def is_whole_model(folder: str | Path) -> bool:
    """
    Tell whether a training has left its whole model in a folder.

    transformers writes `config.json` first, then the weights, and trainers write the processor after them. A kill or a
    full disk in between leaves a part. A file of weights that was cut short does not hold what its header says.
    """
    folder = Path(folder)
    weights = [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX, allowed="It must be an index of transformers.", fix=f"Delete {folder}.")
        weights = [folder / name for name in set(index["weight_map"].values())]
    parts = any((folder / name).is_file() for name in PROCESSORS) and (folder / "config.json").is_file()
    return parts and all(map(_is_whole, weights))


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False
