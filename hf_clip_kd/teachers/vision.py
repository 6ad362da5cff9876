"""Vision models as teachers: a DINOv2, a model of timm, or any other model of images alone."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..models import TimmVisionConfig
from ..models.loader_faults import reason_of

# Outputs that are the embedding of an image, the best of them first.
POOLED = ("image_embeds", "summary", "pooler_output")
# Their classifiers in transformers read the class token after the last norm. Their pooler may be left out.
CLASS_TOKEN_READ = ("deit", "vit", "vit_msn")
# Their class token stands behind the patches, where nothing here looks for it.
CLASS_TOKEN_LAST = ("llama4_vision_model",)


class VisionTower(nn.Module):
    """
    A vision model behind the image half of a dual encoder's interface: its pooled feature is the embedding.

    DINOv2 and DINOv3 pool the class token after the last norm. So do a ViT and a DeiT that come without a pooler. A
    `CLIPVisionModelWithProjection` projects it. Others have their own rule, and the mean of the tokens serves those
    without any.

    Args:
        tower ([`~transformers.PreTrainedModel`]): A model that maps `pixel_values` to a `pooler_output`, or to
            `image_embeds`.
        size (`(int, int)`): Height and width of its images, in pixels.
        projector (`nn.Module`, *optional*): Map of each token to what a language model gets of it, in a LLaVA.
        layer (`int`, *optional*): Entry of `hidden_states` that the projector maps.
    """

    def __init__(
        self,
        tower: PreTrainedModel,
        size: tuple[int, int],
        projector: nn.Module | None = None,
        layer: int | None = None,
    ):
        super().__init__()
        self.vision_model, self.projector, self.layer = tower.eval(), projector, layer
        config = tower.config
        if not isinstance(config, TimmVisionConfig):
            config = self._measured(size)
        self.config = SimpleNamespace(model_type=config.model_type, vision_config=config)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def get_image_features(self, pixel_values: Tensor, output_hidden_states=None) -> BaseModelOutputWithPooling:
        """Embed images as a dual encoder does; `pooler_output` is `(batch, channels)`, a convnet's too."""
        output = self.vision_model(pixel_values=pixel_values, output_hidden_states=output_hidden_states)
        if "last_hidden_state" not in output:
            raise ValueError(
                f"The vision model {type(self.vision_model).__name__} gives {', '.join(output)} and no features. A "
                "teacher must give its last hidden state. Pass the model without its head: CLIPTeacher("
                "model.base_model, processor=...)."
            )
        last, *states = (
            _by_image(state, len(pixel_values)) for state in (output.last_hidden_state, *(output.hidden_states or ()))
        )
        # A CLIPVisionModelWithProjection gives `image_embeds`, a RADIO a `summary`, and others what they pool.
        pooled = next((output[name] for name in POOLED if output.get(name) is not None), None)
        if pooled is None and self.vision_model.config.model_type in CLASS_TOKEN_READ:
            pooled = last[:, 0]
        # An I-JEPA has neither a class token nor a pooling of its own, and its readers average. So do those of a tower
        # that gives a word for each patch.
        if pooled is None or pooled.ndim == 3:
            pooled = last.mean(dim=1)
        return BaseModelOutputWithPooling(last, pooled.flatten(1), tuple(states) or None)

    @torch.no_grad()
    def _measured(self, size: tuple[int, int]) -> SimpleNamespace:
        """
        Measure the layout of its tokens at this image size on one image of noise.

        The configuration has only the layout of its training. A second look at the image finds a model that answers by
        chance.
        """
        config, (height, width) = self.vision_model.config, size
        channels = getattr(config, "num_channels", 3)
        image = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))
        image = image.to(self.device, self.dtype)
        try:
            first, again = (self.get_image_features(image, output_hidden_states=True) for _ in range(2))
        except (AttributeError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(
                f"The vision model {type(self.vision_model).__name__} cannot be run on images of {height}x{width} "
                f"pixels alone ({reason_of(error)}). A teacher takes pixels (batch, 3, height, width), and no other "
                "input. The table in docs/teachers.md has towers of vision-language models. Wrap others: "
                "FunctionTeacher(function, ...)."
            ) from error
        _check_repeats(first.last_hidden_state, again.last_hidden_state, type(self.vision_model).__name__)
        states = first.hidden_states or ()
        layout = SimpleNamespace(
            model_type=config.model_type,
            num_channels=channels,
            image_size=height,
            num_hidden_layers=len(states) - 1,
            num_prefix_tokens=-1,
            grid=None,
        )
        patch = getattr(config, "patch_size", None)
        patch = (patch, patch) if isinstance(patch, int) else patch
        if states and states[-1].ndim == 3 and patch and config.model_type not in CLASS_TOKEN_LAST:
            layout.grid = height // patch[0], width // patch[1]
            layout.num_prefix_tokens = states[-1].shape[1] - math.prod(layout.grid)
        return layout


def _by_image(state: Tensor | None, images: int) -> Tensor | None:
    """Return a hidden state with its first axis for the images. A Pixtral lays them one behind the other."""
    packed = state is not None and state.ndim == 3 and len(state) == 1
    return state.reshape(images, -1, state.shape[-1]) if packed else state


def _check_repeats(first: Tensor, again: Tensor, name: str) -> None:
    """Refuse a model whose two answers to one image differ by more than rounding."""
    if (again - first).float().norm() > 0.01 * first.float().norm():
        raise ValueError(
            f"The vision model {name} answers the same image differently from call to call. A teacher must give one "
            "answer. A ViT-MAE hides patches by chance, and its encoder is a ViT: save it with "
            "ViTModel.from_pretrained(NAME, add_pooling_layer=False).save_pretrained(FOLDER), beside its image "
            "processor. Wrap others: FunctionTeacher(function, ...)."
        )


def check_tokens(model: VisionTower) -> None:
    """
    Check that the tokens of a model have a place in the image.

    Raises:
        ValueError: The tokens of this model lie on no grid that is known.
    """
    layout = model.config.vision_config
    if layout.grid is None or layout.num_prefix_tokens < 0:
        raise ValueError(
            f"{type(model.vision_model).__name__} gives no tokens (batch, number, channels) on a grid of patches. "
            "Vision models that do are transformers' ViTs (DINOv2, DINOv3, ViT, ...) and those of timm. For a convnet "
            "write 'timm:NAME'. The table in docs/teachers.md has towers of vision-language models."
        )
