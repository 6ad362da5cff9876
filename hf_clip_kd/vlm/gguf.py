"""Language models in GGUF files, llama.cpp's form of weights, read as plain models of transformers."""

import logging

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_gguf_available

from ..models.completeness import SAVE_RULE, load_complete
from ..models.loader_faults import loader_faults, reason_of

logger = logging.getLogger(__name__)


def is_gguf(name: str) -> bool:
    """Tell a name of a GGUF file from that of a folder or repository."""
    return name.endswith(".gguf")


def load_gguf(name: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """
    Read a causal language model and its tokenizer from a GGUF file.

    Quantised weights are unpacked. The unpacked model still counts as quantised, and transformers refuses to save it.
    So its weights are copied into a fresh model. The file format is described at
    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

    Args:
        name (`str`):
            `FOLDER//FILE.gguf`, `REPO_ID//FILE.gguf` on the Hub, or the path of a file.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Type of the unpacked weights.

    Returns:
        `tuple`: The model in eval mode, and its tokenizer with the file's own chat template, if it has any.

    Raises:
        ValueError: The package `gguf` is missing, or the file is no whole language model that transformers knows.
    """
    if not is_gguf_available():
        raise ValueError(
            f"language_model={name!r} is a GGUF file, and the package `gguf` is not installed. Only such files need "
            "it. Run `pip install 'hf_clip_kd[gguf]'`, or give a folder of transformers."
        )
    place, _, file = name.rpartition("//" if "//" in name else "/")
    place = place or "."

    def message(error: Exception) -> str:
        return (
            f"language_model={name!r} cannot be read ({reason_of(error)}). It must be a whole GGUF file of a causal "
            "language model that transformers knows. Check the path, or download the file again."
        )

    with loader_faults(message):
        unpacked = load_complete(
            AutoModelForCausalLM,
            place,
            SAVE_RULE,
            gguf_file=file,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file)
    config = {key: value for key, value in unpacked.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(unpacked.config).from_dict(config), dtype=dtype)
    model.load_state_dict(unpacked.state_dict())
    logger.info("%s: %s with %.1f M parameters.", name, type(model).__name__, model.num_parameters() / 1e6)
    return model.eval(), tokenizer


__all__ = ["is_gguf", "load_gguf"]
