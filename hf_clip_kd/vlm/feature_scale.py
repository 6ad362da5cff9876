"""Scaling of features that are much too large or too small for a projector: measure, scale while training, fold in.

A LLaVA in a file stays stock. The scale is a power of two per channel, so folding it into the projector's first matrix
changes exponents only. Both directions are exact.
"""

import re
from collections.abc import MutableMapping
from typing import NamedTuple

import torch
from transformers import LlavaForConditionalGeneration

from ..models.eval_mode import eval_mode

# The second form is the weight's name while adapters are trained.
FIRST_WEIGHT = re.compile(r"multi_modal_projector\.(modules_to_save\.default\.)?linear_1\.weight$")


class FeatureStatistics(NamedTuple):
    """Statistics of the features (images, tokens, C) that enter the projector; `max` is the largest absolute value."""

    mean: float
    std: float
    max: float
    rms_per_channel: torch.Tensor

    def power_of_two_scale(self) -> torch.Tensor:
        """
        Return for each channel the power of two (C,) that brings its root mean square closest to 1.

        A channel that is always 0 keeps the scale 1. A narrow level of a convnet is filled up with such channels.
        """
        rms = self.rms_per_channel
        return torch.where(rms > 0, torch.exp2(-torch.round(torch.log2(rms.clamp_min(1e-30)))), torch.ones_like(rms))


@torch.no_grad()
def measure_features(
    model: LlavaForConditionalGeneration, pixel_values: torch.Tensor, **sizes: torch.Tensor
) -> FeatureStatistics:
    """
    Return statistics of the tower's features as this LLaVA reads them: layers concatenated, its tokens only.

    Outliers of a tower break the training of the projector (RADIO, https://huggingface.co/papers/2312.06709).

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]): Its tower is run in eval mode and left unchanged.
        pixel_values (`torch.Tensor` of shape `(B, 3, S, S)`): Normalised images; `(B, tiles, 3, S, S)` with tiles.
        sizes (`torch.Tensor`): `image_sizes` `(B, 2)` with tiles: height and width of each image.
    """
    seen = []

    def look(projector, args):
        seen.append(args[0].float().cpu())
        raise StopForward

    # This hook comes before those that scale and before the projector runs.
    handle = model.model.multi_modal_projector.register_forward_pre_hook(look, prepend=True)
    try:
        with eval_mode(model.model.vision_tower):
            model.get_image_features(pixel_values.to(device=model.device, dtype=model.dtype), **sizes)
    except StopForward:
        pass
    finally:
        handle.remove()
    (features,) = seen
    return FeatureStatistics(
        mean=features.mean().item(),
        std=features.std().item(),
        max=features.abs().max().item(),
        rms_per_channel=features.double().square().mean(dim=(0, 1)).sqrt().float(),
    )


class StopForward(Exception):
    """Signal that the features have been seen, so the forward pass may end."""


class FeatureScale:
    """
    Hook that multiplies the projector's input by one power of two per channel while it is attached.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]): The LLaVA; its weights are not touched.
        scale (`torch.Tensor` of shape `(C,)`): Powers of two, such as [`FeatureStatistics.power_of_two_scale`].

    Raises:
        ValueError: The scale has another width than the projector, or entries that are no powers of two.

    Example:

    ```python
    scale = FeatureScale(model, measure_features(model, pixel_values).power_of_two_scale())
    scale.attach()
    ...  # train
    model.save_pretrained(folder, state_dict=scale.fold_(model.state_dict()))
    ```
    """

    def __init__(self, model: LlavaForConditionalGeneration, scale: torch.Tensor):
        self.core = model.model
        width = self.core.multi_modal_projector.linear_1.in_features
        if scale.shape != (width,):
            raise ValueError(
                f"scale has the shape {tuple(scale.shape)} and the projector reads {width} channels. It must be "
                f"({width},). Take measure_features(model, pixel_values).power_of_two_scale() of this model."
            )
        mantissa, _ = torch.frexp(scale)
        if not torch.all(mantissa == 0.5):
            raise ValueError(
                "scale has entries that are no positive powers of two, so folding it into the weights would round "
                "them. Allowed are powers of two. Take measure_features(model, pixel_values).power_of_two_scale()."
            )
        self.scale = scale.detach().float().cpu()
        self.handle = None

    def attach(self) -> None:
        """Make the projector read scaled features; a second call changes nothing."""
        if self.handle is None:
            # The projector is looked up here, as adapters may have put a wrapper in its place.
            self.handle = self.core.multi_modal_projector.register_forward_pre_hook(
                lambda module, args: (args[0] * self.scale.to(args[0]), *args[1:])
            )

    def detach(self) -> None:
        """Make the projector read unscaled features again, for example with folded weights."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None

    def fold_(self, state_dict: MutableMapping[str, torch.Tensor]) -> MutableMapping[str, torch.Tensor]:
        """
        Turn weights trained with the scale into weights without it. The dictionary is changed, not its tensors.

        Raises:
            ValueError: The dictionary has no first projector weight.
        """
        return self._replace(state_dict, self.scale)

    def unfold_(self, state_dict: MutableMapping[str, torch.Tensor]) -> MutableMapping[str, torch.Tensor]:
        """Undo [`fold_`], to continue training with the scale attached."""
        return self._replace(state_dict, 1 / self.scale)

    def _replace(self, state_dict, factor: torch.Tensor):
        keys = [key for key in state_dict if FIRST_WEIGHT.search(key)]
        if not keys:
            raise ValueError(
                f"These weights have no key like {FIRST_WEIGHT.pattern!r}, into which the scale belongs. Allowed are "
                "the weights of a LLaVA or of its projector. Pass model.state_dict()."
            )
        for key in keys:
            state_dict[key] = state_dict[key] * factor.to(state_dict[key])
        return state_dict


__all__ = ["FeatureScale", "FeatureStatistics", "measure_features"]
