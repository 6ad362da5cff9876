"""Configurations of a student on a timm trunk: its image tower, and the dual encoder around it."""

from typing import Any

from transformers import CLIPTextConfig, PreTrainedConfig


class TimmVisionConfig(PreTrainedConfig):
    r"""
    Image tower made of one timm model (convnet, hybrid or transformer).

    The fields from `patch_size` to `grid` follow from the trunk. [`load_clip`] measures them by running it once.

    Args:
        architecture (`str`, *optional*, defaults to `"resnet18"`):
            Name of the model in timm, see `timm.list_models()`.
        model_args (`dict`, *optional*):
            Further arguments of `timm.create_model`, such as `{"img_size": 96}`.
        image_size (`int`, *optional*, defaults to 224):
            Side of the square input in pixels.
        patch_size (`int`, *optional*, defaults to 32):
            Pixels of input per token and side, `image_size // grid[0]`: the `patch_size` of a `LlavaProcessor`.
        hidden_size (`int`, *optional*, defaults to 512):
            Width of the tokens in `last_hidden_state`, or of the tokens that a LLaVA reads.
        pooled_size (`int`, *optional*, defaults to 512):
            Width of `pooler_output`. It differs from `hidden_size` if the trunk widens its features before pooling.
        num_hidden_layers (`int`, *optional*, defaults to 5):
            Number of feature levels: blocks of a transformer, stages of a convnet.
        num_prefix_tokens (`int`, *optional*, defaults to 0):
            Tokens before the patches (class token and registers), 0 for a convnet.
        grid (`list[int]`, *optional*, defaults to `[7, 7]`):
            Rows and columns of the patch tokens at `image_size`.
        feature_layers (`list[int]`, *optional*):
            Entries of `hidden_states` that a LLaVA reads together (its `vision_feature_layer`). Levels of a convnet
            differ in grid and width. These levels are averaged to the grid of the deepest of them. They are filled
            with zeros to the width of the widest. `hidden_size`, `grid` and `patch_size` then describe the result.
    """

    model_type = "timm_clip_vision"
    base_config_key = "vision_config"

    architecture: str = "resnet18"
    model_args: dict[str, Any] | None = None
    image_size: int = 224
    num_channels: int = 3
    patch_size: int = 32
    hidden_size: int = 512
    pooled_size: int = 512
    num_hidden_layers: int = 5
    num_prefix_tokens: int = 0
    grid: list[int] | tuple[int, ...] = (7, 7)
    feature_layers: list[int] | None = None


class TimmCLIPConfig(PreTrainedConfig):
    r"""
    Dual encoder of a timm image tower and the CLIP text tower of transformers.

    Args:
        vision_config (`dict` or [`TimmVisionConfig`], *optional*):
            The image tower.
        text_config (`dict` or [`~transformers.CLIPTextConfig`], *optional*):
            The text tower.
        projection_dim (`int`, *optional*, defaults to 512):
            Width of the shared embedding space.
        logit_scale_init_value (`float`, *optional*, defaults to 2.6592600369327783):
            Initial value of the logarithm of the scale, log(1 / 0.07) as in https://huggingface.co/papers/2103.00020.
        initializer_factor (`float`, *optional*, defaults to 1.0):
            Factor on the standard deviations of the projections.
    """

    model_type = "timm_clip"
    sub_configs_defaults = {"vision_config": TimmVisionConfig, "text_config": CLIPTextConfig}

    vision_config: dict | TimmVisionConfig | None = None
    text_config: dict | CLIPTextConfig | None = None
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592600369327783
    initializer_factor: float = 1.0


__all__ = ["TimmCLIPConfig", "TimmVisionConfig"]
