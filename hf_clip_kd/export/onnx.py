"""The ONNX format: `onnx/vision_model.onnx` and `onnx/text_model.onnx`, from pixels and token ids to embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from ..models.loader_faults import reason_of
from ..models.towers.tokens import pooled
from .parity import Answer, Probe, ask_model

FOLDER = "onnx"
# The unit is a typical component of a unit-norm embedding, 1 / sqrt(D). Towers of 8 bits compute nearly the same:
# a largest difference of one unit (of some ten thousand) goes with cosines of about 0.97.
INT8_TOLERANCE = 1.0


class ImageTower(nn.Module):
    """`pixel_values` (B, 3, H, W) to `image_embeds` (B, D), not normalised."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return pooled(self.model.get_image_features(pixel_values=pixel_values))


class TextTower(nn.Module):
    """`input_ids` (B, L) to `text_embeds` (B, D), not normalised. Padding behind the end token changes nothing."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return pooled(self.model.get_text_features(input_ids=input_ids))


def write_onnx(folder: Path, model: PreTrainedModel, probe: Probe, quantize: bool) -> None:
    """
    Write both towers with a dynamic batch; the length of the texts is the context length.

    Args:
        quantize (`bool`):
            Also write `vision_model_int8.onnx` and `text_model_int8.onnx`, with the weights in 8 bits and activations
            quantised as they come (onnxruntime's dynamic quantisation).

    Raises:
        ValueError: The packages are not installed, or a tower cannot be traced.
    """
    check_packages()
    (folder / FOLDER).mkdir()
    towers = {
        "vision_model": (ImageTower(model), probe.pixel_values[:2], "pixel_values", "image_embeds"),
        "text_model": (TextTower(model), probe.input_ids[:2], "input_ids", "text_embeds"),
    }
    for name, (tower, example, given, made) in towers.items():
        path = folder / FOLDER / f"{name}.onnx"
        try:
            torch.onnx.export(
                tower.eval(),
                (example,),
                path,
                input_names=[given],
                output_names=[made],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # The exporter's stages raise errors of any type.
            raise ValueError(
                f"The {name} of this {type(model).__name__} cannot be exported as 'onnx' ({type(error).__name__}: "
                f"{reason_of(error)}). Allowed are towers that torch.export can trace. Leave 'onnx' out."
            ) from error
        if quantize:
            write_int8(path, path.with_name(f"{name}_int8.onnx"))


def write_int8(path: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    # torch notes the shapes between the layers before the exporter transposes some weights.
    del model.graph.value_info[:]
    # Weights are unsigned: onnxruntime has no convolution of signed 8-bit weights on a CPU.
    quantize_dynamic(model, target, weight_type=QuantType.QUInt8, per_channel=True)


def check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"The format 'onnx' needs {error.name}, which is not installed. Allowed without it are the other formats. "
            "Run `pip install hf_clip_kd[onnx]`."
        ) from error


class OnnxModel(nn.Module):
    """The two files of a folder behind the methods of a dual encoder."""

    def __init__(self, folder: Path, suffix: str, logit_scale: Tensor):
        super().__init__()
        import onnxruntime

        self.towers = {
            name: onnxruntime.InferenceSession(
                str(folder / FOLDER / f"{name}{suffix}.onnx"), providers=["CPUExecutionProvider"]
            )
            for name in ("vision_model", "text_model")
        }
        self.logit_scale = logit_scale

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self._run("vision_model", pixel_values.numpy())

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        return self._run("text_model", input_ids.numpy())

    def _run(self, name: str, value: np.ndarray) -> Tensor:
        session = self.towers[name]
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: value})[0])


def ask_onnx(
    folder: Path, model: PreTrainedModel, processor: ProcessorMixin, probe: Probe, suffix: str = ""
) -> Answer:
    """Return the answer of onnxruntime; scale, transform and tokenizer are the model's own, as the files have none."""
    return ask_model(OnnxModel(folder, suffix, model.logit_scale.detach()), processor, probe)


__all__ = ["INT8_TOLERANCE", "ask_onnx", "write_onnx"]
