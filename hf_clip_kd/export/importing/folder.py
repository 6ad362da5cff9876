"""[`import_checkpoint`]: a checkpoint of another project as a folder of ours."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import open_clip
from huggingface_hub import snapshot_download
from open_clip.transform import PreprocessCfg
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ...models import clip_tokenizer, load_clip
from ...models.loader_faults import reason_of
from ...models.names import is_hub_id
from ...models.tokenizer import CLIP_VOCAB_SIZE
from ...recipe_io.foreign import read_json
from ...recipe_io.new_folder import new_folder
from ..open_clip import CONFIG as OPEN_CLIP_CONFIG
from ..open_clip import save_open_clip
from .architecture import ARCHITECTURE, build, infer_architecture, is_reparameterized, model_cfg, read_architecture
from .students import to_student
from .weights import LAYOUTS, check_names, read_state_dict, tinyclip_names, weights_in

logger = logging.getLogger(__name__)

# MobileCLIP reads pixels between 0 and 1, see https://github.com/apple/ml-mobileclip
MOBILECLIP_PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}
# Files that may belong to a tokenizer; weights do not.
TOKENIZER_FILES = (".json", ".txt", ".model")


def import_checkpoint(
    checkpoint: str | os.PathLike,
    output_dir: str | os.PathLike,
    layout: str,
    architecture: str | os.PathLike | None = None,
) -> str:
    """
    Write a checkpoint as a folder of ours, and compare its embeddings with those of its own model.

    Pickles are read with `weights_only=True`: no code in them runs.

    Args:
        checkpoint (`str` or `os.PathLike`):
            A `.pt` or `.safetensors` file, a Hub id, or a folder. A folder or Hub id has an `open_clip_config.json`
            (open_clip and MobileCLIP) or a CLIP of transformers (TinyCLIP).
        output_dir (`str` or `os.PathLike`): The new folder; empty or not there yet.
        layout (`str`): Naming of its weights: `open_clip`, `clip_kd`, `tinyclip` or `mobileclip`.
        architecture (`str` or `os.PathLike`, *optional*):
            A name of `open_clip.list_models()` or a JSON of that schema. The default reads the sizes of a ViT off
            its weights, with heads of 64 channels and GELU. Models trained from OpenAI's need a JSON with
            `"quick_gelu": true`.

    Returns:
        `str`: The name for teachers, evaluation and `build_llava`. It is `output_dir` if a class of ours computes the
        same: [`~transformers.CLIPModel`] or, for an image tower of timm, [`TimmCLIPModel`]. Otherwise it is
        `open_clip:local-dir:...`, and open_clip loads the model (most MobileCLIPs read texts in both directions).

    Raises:
        ValueError: There is no such checkpoint, or it has another layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(
            f"layout={layout!r} (recipe: --format) is unknown. Allowed are {', '.join(LAYOUTS)}. A checkpoint of "
            "another project can be had by writing its weights under open_clip's names."
        )
    source, output = local(checkpoint), Path(output_dir)
    with new_folder(output) as folder:
        prefix = write(folder, source, layout, architecture)
    logger.info("Imported %s: give %s%s to the recipes.", checkpoint, prefix, output)
    return f"{prefix}{output}"


def local(checkpoint: str | os.PathLike) -> Path:
    """Return the file or folder, downloaded if it is a Hub id."""
    source = Path(checkpoint)
    if source.exists():
        return source
    reason = "there is no such file or folder"
    if is_hub_id(os.fspath(checkpoint)):
        try:
            return Path(snapshot_download(os.fspath(checkpoint)))
        except (OSError, ValueError) as error:
            reason += f", and on the Hub: {reason_of(error)}"
    raise ValueError(
        f"checkpoint={str(checkpoint)!r} is not there ({reason}). Allowed are a .pt or .safetensors file, a folder "
        "and a Hub id. Check the path and the network."
    )


def write(folder: Path, source: Path, layout: str, architecture: str | os.PathLike | None) -> str:
    """Write the folder and return the prefix that its path needs to be loaded."""
    if source.is_dir() and not (source / OPEN_CLIP_CONFIG).is_file():
        model, processor = load_clip(source)
    else:
        original, config, pixels = read_open_clip(source, layout, architecture)
        try:
            model, processor = to_student(original, pixels, tokenizer_of(source, original))
        except ValueError as error:
            return keep_open_clip(folder, original, config, pixels, source, str(error))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return ""


def keep_open_clip(
    folder: Path, model: nn.Module, config: dict, pixels: PreprocessCfg, source: Path, reason: str
) -> str:
    if is_reparameterized(model.state_dict()):
        raise ValueError(
            f"The checkpoint {str(source)!r} cannot be imported: {reason}, and open_clip does not load folded "
            "branches. Allowed is such a model as it was trained. Take the checkpoint before its reparameterisation."
        )
    logger.warning("No class of ours computes what %s computes (%s): it stays a model of open_clip.", source, reason)
    if source.is_dir():
        for path in source.iterdir():
            if path.suffix in TOKENIZER_FILES:
                shutil.copyfile(path, folder / path.name)
    save_open_clip(folder, config, asdict(pixels), model.state_dict())
    return "open_clip:local-dir:"


def tokenizer_of(source: Path, model: nn.Module) -> PreTrainedTokenizerBase:
    """Return the tokenizer beside the weights, else CLIP's."""
    if (source / "tokenizer.json").is_file():
        return AutoTokenizer.from_pretrained(source)
    text = model if isinstance(model, open_clip.CLIP) else model.text
    if text.vocab_size != CLIP_VOCAB_SIZE:
        raise ValueError(f"it has {text.vocab_size} tokens, CLIP's tokenizer {CLIP_VOCAB_SIZE}")
    return clip_tokenizer(context_length=text.context_length)


def read_open_clip(source: Path, layout: str, architecture: str | os.PathLike | None):
    """Return the model as one of open_clip, its `model_cfg`, and its preprocessing."""
    pixels = MOBILECLIP_PIXELS if layout == "mobileclip" else {}
    if source.is_dir():
        path = source / OPEN_CLIP_CONFIG
        stored = read_json(path, allowed=ARCHITECTURE, fix="Export the model again.")
        config = model_cfg(stored.get("model_cfg"), path)
        known = PreprocessCfg.__dataclass_fields__
        pixels = {key: value for key, value in stored.get("preprocess_cfg", {}).items() if key in known}
        state = read_state_dict(weights_in(source))
    else:
        state = read_state_dict(source)
        config = None if architecture is None else read_architecture(architecture)
    if layout == "tinyclip":
        state = tinyclip_names(state)
    check_names(state, source, layout)
    config = config or infer_architecture(state, source)
    model = build(config, state, source)
    side = model.visual.image_size
    return model, config, PreprocessCfg(**pixels | {"size": side if isinstance(side, int) else side[0]})


__all__ = ["import_checkpoint"]
