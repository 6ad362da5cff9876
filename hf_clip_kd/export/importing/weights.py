"""The weights in a checkpoint of another project, under the names that open_clip gives them or knows."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...models.loader_faults import loader_faults, reason_of
from ...models.zip_bombs import refuse_zip_bomb
from ..open_clip import CONFIG as OPEN_CLIP_CONFIG

LAYOUTS = ("open_clip", "clip_kd", "tinyclip", "mobileclip")


def weights_in(folder: Path) -> Path:
    # File names under which open_clip stores weights, best first.
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"The folder {str(folder)!r} has an {OPEN_CLIP_CONFIG} and no weights. Allowed are {', '.join(names)}. "
            "Download the whole repository."
        )
    return found[0]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the weights in a file in fp32, without what training wrapped around them."""

    def message(error: Exception) -> str:
        return (
            f"The checkpoint {str(path)!r} cannot be read ({type(error).__name__}: {reason_of(error)}). Allowed are "
            ".safetensors files and pickles of tensors alone (weights_only=True). Load another with its own code and "
            "save its state_dict()."
        )

    with loader_faults(message):
        refuse_zip_bomb(path)
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"The checkpoint {str(path)!r} holds no weights by name. Allowed is a state dict, also under 'state_dict' "
            "or 'model'. Save model.state_dict()."
        )
    # DistributedDataParallel adds "module" around the model or around its parts.
    state = {".".join(part for part in key.split(".") if part != "module"): value for key, value in state.items()}
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def tinyclip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the towers, each in one encoder (https://github.com/wkcn/TinyCLIP), and drop the masks of training."""
    prefixes = r"^_?(image_encoder|text_encoder|logit_scale)(_without_ddp)?\."
    return {re.sub(prefixes, "", key): value for key, value in state.items() if ".l0_module." not in key}


def check_names(state: dict[str, Tensor], source: Path, layout: str) -> None:
    wanted = ("visual.", "image_encoder.model.") if layout == "mobileclip" else ("visual.",)
    if "logit_scale" not in state or not any(key.startswith(wanted) for key in state):
        raise ValueError(
            f"The checkpoint {str(source)!r} is none of layout={layout!r}: its weights are called "
            f"{', '.join(list(state)[:3])}, and so on. Allowed are logit_scale, {' or '.join(wanted)}... and a text "
            f"tower. Another layout may fit: {', '.join(LAYOUTS)}."
        )
    if any(key.startswith("text_encoder.") and "token_mixer" in key for key in state):
        raise ValueError(
            f"The checkpoint {str(source)!r} is a MobileCLIP-S0, whose text tower has convolutions. Allowed are text "
            "towers of plain transformer blocks. Take MobileCLIP2-S0, MobileCLIP-S1, -S2 or -B."
        )


__all__ = ["LAYOUTS", "check_names", "read_state_dict", "tinyclip_names", "weights_in"]
