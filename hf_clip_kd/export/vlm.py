"""A LLaVA in a form that loads without this package: stock classes, or with the code of its image tower."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..data.shapes import load_shapes
from ..models import ReducedTower, TimmVisionModel
from ..vlm.saving import code_of, load_llava, save_llava
from ..vlm.tiles import LLAVAS
from .isolated_process import run_isolated
from .trunks import convert_trunk

VLM_FORMATS = ("native", "remote-code")
NUM_IMAGES, QUESTION = 4, "What is in the image?"
# Code for a process that cannot import this package; arguments: folder, inputs and outputs.
READER = """
import sys
sys.modules["hf_clip_kd"] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
folder, given, made = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
with torch.no_grad():
    inputs = load_file(given)
    def logits(name):
        return model(**{key.split("/")[1]: value for key, value in inputs.items() if key.startswith(name)}).logits
    save_file({name: logits(name) for name in ("real", "random")}, made)
"""


def write_llava(root: Path, folder: Path, formats: list[str], tolerance: float) -> dict[str, dict[str, float]]:
    """
    Write a LLaVA in fp32 into `root`, and compare its logits with those of `folder` in a separate process.

    Returns:
        `dict`: Differences of the one format. The largest difference of a logit (on pictures of the embedded world and
        on random pixels), in standard deviations of the logits. The share of equal next tokens. The tolerance.

    Raises:
        ValueError: Not just one of `native` and `remote-code`, the wrong one, or a difference beyond the tolerance.
    """
    if len(formats) != 1 or formats[0] not in VLM_FORMATS:
        raise ValueError(
            f"formats={formats!r} was asked of {str(folder)!r}, which holds a LLaVA. Allowed is one of "
            f"{', '.join(VLM_FORMATS)}. For open_clip and ONNX export the student that is its tower."
        )
    (name,) = formats
    model, processor = load_llava(folder, dtype=torch.float32)
    model.eval()
    inputs = make_inputs(model, processor)
    with torch.no_grad():
        expected = {key: model(**value).logits for key, value in inputs.items()}
    if name == "native":
        make_native(model)
    elif code_of(model.config.vision_config)[0] is None:
        raise ValueError(
            f"{str(folder)!r} cannot be exported as 'remote-code': all its classes are of transformers. Allowed are "
            "LLaVAs on a timm trunk or with reduced tokens. Export it as 'native'."
        )
    save_llava(model, processor, root)
    found = read_isolated(root, inputs)
    report = {
        f"{key}_logits": float((found[key] - expected[key]).abs().max() / expected[key].std()) for key in expected
    }
    same = torch.cat([(found[key].argmax(-1) == expected[key].argmax(-1)).flatten() for key in expected])
    report |= {"token_agreement": float(same.float().mean()), "tolerance": tolerance}
    # NaN is not within the tolerance, and `max` may pass over it.
    if not all(report[f"{key}_logits"] <= tolerance for key in expected):
        raise ValueError(
            f"The export {name!r} does not compute what the LLaVA computes ({report}). Allowed are differences up to "
            f"tolerance={tolerance:g}. Raise the tolerance if you can live with that. Nothing was written."
        )
    return {name: report}


def make_native(model: LlavaForConditionalGeneration) -> None:
    """Replace a timm tower by a stock one that computes the same."""
    tower = model.model.vision_tower
    if isinstance(tower, ReducedTower):
        raise ValueError(
            "A LLaVA with reduced tokens cannot be exported as 'native': no class of transformers reduces them before "
            "a projector of two layers. Allowed are LLaVAs with all their tokens. Export it as 'remote-code'."
        )
    if not isinstance(tower, TimmVisionModel):
        return
    try:
        stock = convert_trunk(tower)
    except ValueError as error:
        raise ValueError(
            f"The LLaVA on {tower.config.architecture!r} cannot be exported as 'native': {error}. Allowed are vision "
            "transformers of timm that take their class token. Export it as 'remote-code'."
        ) from error
    model.model.vision_tower = stock
    model.config.vision_config = model.model.config.vision_config = stock.config


def make_inputs(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> dict[str, dict[str, Tensor]]:
    pictures = load_shapes("test", size=NUM_IMAGES, image_size=96)["image"][:]
    text = f"{processor.image_token}\n{QUESTION}"
    real = dict(processor(images=pictures, text=[text] * NUM_IMAGES, return_tensors="pt"))
    noise = torch.randn(real["pixel_values"].shape, generator=torch.Generator().manual_seed(0))
    return {"real": real, "random": real | {"pixel_values": noise}}


def read_isolated(folder: Path, inputs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    with TemporaryDirectory() as scratch:
        given, made = f"{scratch}/given.safetensors", f"{scratch}/made.safetensors"
        flat = {f"{key}/{name}": value.clone() for key, value in inputs.items() for name, value in value.items()}
        save_file(flat, given)
        run_isolated(READER, folder, given, made, scratch)
        return load_file(made)


def is_llava(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("model_type") in LLAVAS


__all__ = ["is_llava", "write_llava"]
