"""The remote-code format: the model as it is, with the files of its classes beside it (`trust_remote_code=True`)."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, ProcessorMixin
from transformers.dynamic_module_utils import get_relative_import_files

from ..models import TimmCLIPModel
from ..models.timm_clip import modeling_timm_clip
from .isolated_process import run_isolated
from .native import VISION_FOLDER
from .parity import Answer, Probe

# The Auto classes of transformers read this: file and class.
DUAL_ENCODER = {
    "AutoConfig": "configuration_timm_clip.TimmCLIPConfig",
    "AutoModel": "modeling_timm_clip.TimmCLIPModel",
    "AutoModelForZeroShotImageClassification": "modeling_timm_clip.TimmCLIPModel",
}
VISION_MODEL = {
    "AutoConfig": "configuration_timm_clip.TimmVisionConfig",
    "AutoModel": "modeling_timm_clip.TimmVisionModel",
}

# Code for a process that cannot import this package, like the reader's; arguments: folder, inputs and outputs.
READER = """
import json, sys
sys.modules["hf_clip_kd"] = None
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open, save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
folder, given, made = sys.argv[1:]
with safe_open(given, "pt") as file:
    texts = json.loads(file.metadata()["texts"])
    inputs = {key: file.get_tensor(key) for key in file.keys()}
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
pictures = [Image.fromarray(inputs[key].numpy()) for key in sorted(inputs) if key.startswith("picture")]
pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(pictures, return_tensors="pt")["pixel_values"]
length = inputs["input_ids"].shape[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")["input_ids"]
unit = lambda output: torch.nn.functional.normalize(output.pooler_output.float(), dim=-1)
with torch.no_grad():
    save_file({
        "pixel_values": pixels,
        "input_ids": ids,
        "real_images": unit(model.get_image_features(pixels)),
        "real_texts": unit(model.get_text_features(ids)),
        "random_images": unit(model.get_image_features(inputs["pixel_values"])),
        "random_texts": unit(model.get_text_features(inputs["input_ids"])),
        "logit_scale": model.logit_scale.exp().float(),
    }, made)
"""


def write_remote_code(folder: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """
    Write a [`TimmCLIPModel`], its processor and its code, and its image tower alone in the subfolder `vision_model`.

    The reader needs transformers and timm, not this package.

    Raises:
        ValueError: The model is one of transformers and has no code to bring.
    """
    if not isinstance(model, TimmCLIPModel):
        raise ValueError(
            f"{type(model).__name__} cannot be exported as 'remote-code': it is a class of transformers. Allowed are "
            "students on a timm trunk (TimmCLIPModel). Export it as 'native'."
        )
    write_with_code(folder, model, DUAL_ENCODER)
    processor.save_pretrained(folder)
    write_with_code(folder / VISION_FOLDER, model.vision_model, VISION_MODEL)
    processor.image_processor.save_pretrained(folder / VISION_FOLDER)


def write_with_code(folder: Path, model: PreTrainedModel, auto_map: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    code = modeling_timm_clip.__file__
    for path in {code, *get_relative_import_files(code)}:
        shutil.copyfile(path, folder / Path(path).name)
    model.config.auto_map = dict(auto_map)
    try:
        model.save_pretrained(folder)
    finally:
        # The model stays ours: another save of it must not promise files that are not there.
        del model.config.auto_map


def ask_remote_code(folder: Path, probe: Probe) -> Answer:
    """Return the answer of a separate process that cannot import this package."""
    pictures = {
        f"picture{index:03}": torch.from_numpy(np.array(picture)) for index, picture in enumerate(probe.pictures)
    }
    inputs = {"pixel_values": probe.pixel_values, "input_ids": probe.input_ids, **pictures}
    with TemporaryDirectory() as scratch:
        given, made = f"{scratch}/given.safetensors", f"{scratch}/made.safetensors"
        save_file(inputs, given, metadata={"texts": json.dumps(probe.texts)})
        run_isolated(READER, folder, given, made, scratch)
        return Answer(**load_file(made))


__all__ = ["ask_remote_code", "write_remote_code"]
