"""Ways to load a folder, found from its files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from ...recipe_io.results import read_written

# Image towers that `build_llava` takes from the folder of a dual encoder.
TOWERS = ("clip", "timm_clip", "siglip")


def loading(path: Path, config: dict[str, Any], place: str, on_hub: bool) -> dict[str, Any]:
    """
    Return the values by which the templates choose the examples of a card.

    Args:
        path (`Path`): The folder.
        config (`dict`): Its `config.json`.
        place (`str`): The Hub id or folder for the examples.
        on_hub (`bool`): `True` if `place` is a Hub id.

    Returns:
        `dict`:
            - `place`: the place as a Python string; `shell`: the same as a word of a shell.
            - `model_class`: the class of transformers.
            - `package`: `True` if it needs hf_clip_kd; `unknown_type`: the model type that transformers lacks then.
            - `remote`: `True` if it brings its own code; `trust`: the argument that asks for it.
            - `on_hub`: the argument.
            - `open_clip`: its name there, if it has that format.
            - `vision_class`: class of a subfolder `vision_model`.
            - `onnx`: the files.
            - `tower`: `True` if it can be the tower of a LLaVA.
    """
    remote = "auto_map" in config
    unknown = _unknown_type(config)
    package = not remote and unknown is not None
    open_clip = (path / "open_clip_config.json").is_file()
    vision = path / "vision_model" / "config.json"
    return {
        # A JSON string is a valid Python string.
        "place": json.dumps(place),
        "shell": shlex.quote(place),
        "model_class": "AutoModel" if package or remote else (config.get("architectures") or ["AutoModel"])[0],
        "package": package,
        "unknown_type": unknown,
        "remote": remote,
        "trust": ", trust_remote_code=True" if remote else "",
        "on_hub": on_hub,
        "open_clip": json.dumps(("hf-hub:" if on_hub else "local-dir:") + place) if open_clip else None,
        "vision_class": read_written(vision)["architectures"][0] if vision.is_file() else None,
        "onnx": sorted(file.name for file in (path / "onnx").glob("*.onnx")),
        "tower": config.get("model_type") in TOWERS,
    }


def _unknown_type(config: dict[str, Any]) -> str | None:
    """Return the model type of a configuration or of its image tower that this package registers."""
    types = (config.get("model_type", ""), config.get("vision_config", {}).get("model_type", ""))
    return next((name for name in types if name.startswith("timm_clip")), None)
