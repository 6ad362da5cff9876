"""Cost of a model: parameters, floating-point operations and measured throughput of its towers."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..data.transforms.naflex import NaflexImageProcessor, packed
from ..data.transforms.view import TextView
from ..models.eval_mode import eval_mode
from ..models.processing import fit_processor
from ..recipe_io.foreign import read_yaml
from ..recipe_io.results import save_cost


class ParametersRead(TorchDispatchMode):
    """Counts the parameters of a model that a computation reads, whatever their names and their readers."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.sizes = {tensor.untyped_storage().data_ptr(): tensor.numel() for tensor in model.parameters()}
        self.read: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        # A transposed or sliced weight has the storage of the parameter.
        self.read |= {tensor.untyped_storage().data_ptr() for tensor in tensors} & self.sizes.keys()
        return func(*args, **(kwargs or {}))

    def count(self) -> int:
        return sum(self.sizes[pointer] for pointer in self.read)


@torch.inference_mode()
def measure_cost(model: nn.Module, processor, *, batch_size: int = 32, seconds: float = 1.0) -> dict[str, Any]:
    """
    Count and time the towers of a dual encoder, or the image side of a vision-language model.

    Operations are those of matrix products, convolutions and attention, two for each multiply-add. They count for one
    image of the processor's size, and for one text as long as the context. Throughput is that of the
    towers alone, without preprocessing: the median over repeated batches.

    Args:
        model (`nn.Module`): Has `get_image_features(pixel_values=)` and, if it embeds texts,
            `get_text_features(input_ids=, attention_mask=)`.
        processor: Has the `image_processor` and the `tokenizer` of the model.
        batch_size (`int`, *optional*, defaults to 32): Images, or texts, per timed call.
        seconds (`float`, *optional*, defaults to 1.0): Time for each tower, at least; it is called three times at
            least.

    Returns:
        `dict`:

        - `image` and, for a dual encoder, `text`: each with the `parameters` that the tower and its projection read,
          the `flops` of one input, and inputs `per_second`.
        - `parameters` of the whole model, `image_size` in pixels (of a NaFlex tower, which sees any shape, the number
          of `patches`) and `context_length` in tokens.
        - `measured_on`: the device, the number of CPU threads, the batch size, the type of the weights, torch's
          version.
    """
    parameter = next(model.parameters())
    images = [Image.new("RGB", (64, 64))]
    image_processor = packed(processor.image_processor)
    pixels = image_processor(images=images, return_tensors="pt")["pixel_values"].to(parameter)
    cost: dict[str, Any] = {"parameters": sum(tensor.numel() for tensor in model.parameters())}
    with eval_mode(model):
        cost["image"] = _cost_of(model, model.get_image_features, {"pixel_values": pixels}, batch_size, seconds)
        if isinstance(image_processor, NaflexImageProcessor):
            cost["patches"] = pixels.shape[1]
        else:
            cost["image_size"] = list(pixels.shape[-2:])
        if hasattr(model, "get_text_features"):
            tokenize = TextView(fit_processor(processor, model), padding="max_length")
            tokens = {name: values.to(parameter.device) for name, values in tokenize(["a"]).items()}
            cost["text"] = _cost_of(model, model.get_text_features, tokens, batch_size, seconds)
            cost["context_length"] = tokenize.context_length
    cost["measured_on"] = {
        "device": _device_name(parameter.device),
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    return cost


def measure_run(folder: str | Path, load: Callable[[Path], tuple], output_dir: str | Path | None = None) -> Path:
    """
    Measure a finished run for its card, from its folders alone, and write `cost.json`.

    The file has the cost of the folder's model. A teacher that the recipe names by its folder is measured, too.

    Args:
        folder (`str` or `Path`): Folder of a dual encoder or a LLaVA.
        load (`Callable[[Path], tuple]`): Gives the model and the processor in a folder, such as `export.load_folder`.
        output_dir (`str` or `Path`, *optional*, defaults to `folder`): Folder of the file.

    Returns:
        `Path`: path of the file.
    """
    folder = Path(folder)
    models = {"this model": folder}
    recipe = folder / "recipe.yaml"
    words = {"allowed": "It must be the recipe of a run.", "fix": "Correct it, or move it away."}
    values = read_yaml(recipe, **words) if recipe.is_file() else {}
    teacher = values.get("teacher_model_name_or_path")
    if isinstance(teacher, str) and Path(teacher, "config.json").is_file():
        models["teacher"] = Path(teacher)
    return save_cost(output_dir or folder, {role: measure_cost(*load(model)) for role, model in models.items()})


def _cost_of(model, call: Callable[..., Any], inputs: dict[str, Tensor], batch_size: int, seconds: float) -> dict:
    with FlopCounterMode(display=False) as flops, ParametersRead(model) as parameters:
        call(**inputs)
    batch = {name: tensor.expand(batch_size, *tensor.shape[1:]).contiguous() for name, tensor in inputs.items()}
    device = next(iter(batch.values())).device
    times: list[float] = []
    call(**batch)  # The first call allocates and compiles, and is not timed.
    while len(times) < 3 or sum(times) < seconds:
        _wait(device)
        start = time.perf_counter()
        call(**batch)
        _wait(device)
        times.append(time.perf_counter() - start)
    per_second = batch_size / statistics.median(times)
    return {"parameters": parameters.count(), "flops": flops.get_total_flops(), "per_second": round(per_second, 1)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
