"""ReusedProjector: the teacher's projector, frozen, behind an adapter for the student's tower."""

from __future__ import annotations

import copy
import os
from collections.abc import MutableMapping

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from ..training.checkpoint_reading import load_part

ADAPTER_NAME = "projector_adapter.safetensors"
PREFIX = "model.multi_modal_projector."


class ReusedProjector(nn.Module):
    """
    The projector of a teacher, frozen, behind a linear adapter from the student's tokens to the width of its tower.

    So the student's tokens are understood if they say things as the teacher's do. The idea is of
    [CompoDistill](https://huggingface.co/papers/2510.12184), whose student and teacher share a tower. Adapter and
    first layer are two matrices in a row. So both are one matrix in a saved LLaVA, which stays stock. A checkpoint of
    a run has the adapter beside it, in `projector_adapter.safetensors`.

    The adapter begins as the identity where the widths are equal. A second stage begins with the adapter of the first.
    The student's projector then holds it, and least squares finds it there.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]): The student, whose projector is replaced. Its
            configuration takes over the teacher's activation and biases.
        teacher ([`~transformers.LlavaForConditionalGeneration`]): The teacher. Its projector is copied.

    Raises:
        ValueError: The language models have unequal widths.
    """

    def __init__(self, model: LlavaForConditionalGeneration, teacher: LlavaForConditionalGeneration):
        super().__init__()
        own, theirs = model.model.multi_modal_projector, teacher.model.multi_modal_projector
        widths = [projector.linear_2.out_features for projector in (own, theirs)]
        if widths[0] != widths[1]:
            raise ValueError(
                f"`reuse_projector` with a student whose language model is {widths[0]} wide and a teacher whose is "
                f"{widths[1]}. Its projector writes for the teacher's, so both must be equal. Leave `reuse_projector` "
                "out, or take a teacher on a language model of that width."
            )
        place = {"device": own.linear_1.weight.device, "dtype": own.linear_1.weight.dtype}
        biased = theirs.linear_1.bias is not None
        self.adapter = nn.Linear(own.linear_1.in_features, theirs.linear_1.in_features, bias=biased, **place)
        self.linear_1, self.act, self.linear_2 = (
            _copy(theirs.linear_1, place),
            copy.deepcopy(theirs.act),
            _copy(theirs.linear_2, place),
        )
        self._begin(own)
        model.config.projector_hidden_act = teacher.config.projector_hidden_act
        model.config.multimodal_projector_bias = biased
        model.model.multi_modal_projector = self

    @torch.no_grad()
    def _begin(self, own: nn.Module) -> None:
        biased = self.adapter.bias is not None
        if torch.equal(own.linear_2.weight, self.linear_2.weight):
            # The whole is first layer times adapter. The adapter of the smallest norm that gives the whole is taken.
            inverse = torch.linalg.pinv(self.linear_1.weight.double())
            self.adapter.weight.copy_(inverse @ own.linear_1.weight.double())
            if biased:
                self.adapter.bias.copy_(inverse @ (own.linear_1.bias.double() - self.linear_1.bias.double()))
        elif self.adapter.in_features == self.adapter.out_features:
            nn.init.eye_(self.adapter.weight)
            if biased:
                nn.init.zeros_(self.adapter.bias)

    def forward(self, image_features: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(self.adapter(image_features))))

    def fold_(self, state_dict: MutableMapping[str, Tensor]) -> MutableMapping[str, Tensor]:
        """Turn the weights of a LLaVA with this projector into those of a stock LLaVA. The dictionary is changed."""
        adapter = {name: state_dict.pop(f"{PREFIX}adapter.{name}") for name in dict(self.adapter.named_parameters())}
        first = state_dict[f"{PREFIX}linear_1.weight"]
        state_dict[f"{PREFIX}linear_1.weight"] = (first.double() @ adapter["weight"].double()).to(first.dtype)
        if "bias" in adapter:
            bias = state_dict[f"{PREFIX}linear_1.bias"]
            state_dict[f"{PREFIX}linear_1.bias"] = bias + (first.double() @ adapter["bias"].double()).to(bias.dtype)
        return state_dict

    def names(self) -> list[str]:
        """Return the names of its weights in a LLaVA."""
        return [f"{PREFIX}{name}" for name in self.state_dict()]

    def save(self, state_dict: MutableMapping[str, Tensor], folder: str) -> None:
        """Write the adapter beside a checkpoint, out of the weights of the whole model."""
        names = [f"adapter.{name}" for name in self.adapter.state_dict()]
        weights = {name: state_dict[f"{PREFIX}{name}"].contiguous() for name in names}
        save_file(weights, os.path.join(folder, ADAPTER_NAME), metadata={"format": "pt"})

    def load(self, folder: str) -> None:
        """
        Read the adapter of a checkpoint.

        Raises:
            ValueError: The checkpoint has none.
        """
        path = os.path.join(folder, ADAPTER_NAME)
        if not os.path.isfile(path):
            raise ValueError(
                f"{folder!r} has no {ADAPTER_NAME}. A run with `reuse_projector` resumes only with it. Resume from an "
                "earlier `checkpoint-N`, or start from the weights: `--model_name_or_path`."
            )
        self.load_state_dict(self.state_dict() | load_part(path))


def _copy(layer: nn.Linear, place: dict) -> nn.Linear:
    """Return a frozen copy of a layer in the student's type."""
    own = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, **place)
    own.load_state_dict(layer.state_dict())
    return own.requires_grad_(False)


__all__ = ["ReusedProjector"]
