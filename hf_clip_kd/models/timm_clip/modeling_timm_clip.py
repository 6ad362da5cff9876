"""Student on a timm trunk: [`TimmVisionModel`], also a tower for a LLaVA, and [`TimmCLIPModel`] around it."""

import torch
from torch import nn
from transformers import CLIPTextModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPOutput, image_text_contrastive_loss

from .configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .levels import align_levels, to_tokens, without_embeddings


class TimmVisionModel(PreTrainedModel):
    """
    A timm model with the interface of [`~transformers.CLIPVisionModel`].

    `last_hidden_state` and `hidden_states[-1]` are the tokens (B, prefix + h * w, hidden_size) of the last level. They
    are taken before the trunk's final norm or head. `pooler_output` (B, pooled_size) is the trunk's own pooled
    feature. `hidden_states` has `num_hidden_layers + 1` entries, numbered as in CLIP. Entry 0, the embeddings, is
    always `None`. Levels of a convnet differ in width and number of tokens, unless `config.feature_layers` asks for
    one shape.
    """

    config_class = TimmVisionConfig
    config: TimmVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: TimmVisionConfig):
        super().__init__(config)
        self.trunk = self._build_trunk()
        # transformers 5 turns checkpointing on by setting this attribute on every module that has it.
        self.gradient_checkpointing = False
        self._trunk_checkpoints = False
        self.last_level = config.num_hidden_layers
        # Initial values that wait for their module of the trunk, by the name of the tensor.
        self._initial: dict[nn.Module, dict[str, torch.Tensor]] = {}
        # `post_init` leaves the trunk as timm has just initialised it: other random numbers would be another student.
        self._is_built = False
        self.post_init()
        self._is_built = True

    def _build_trunk(self) -> nn.Module:
        import timm  # takes long, so it waits for a trunk to build

        return timm.create_model(
            self.config.architecture,
            pretrained=False,
            num_classes=0,
            in_chans=self.config.num_channels,
            **(self.config.model_args or {}),
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Give the tensors of one module that were not read from a checkpoint their values in a new timm model."""
        if not self._is_built:
            return
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
        if module not in self._initial and unread(module):
            fresh = dict(self._build_trunk().named_modules())
            self._initial = {
                own: {tensor: getattr(fresh[name], tensor) for tensor in tensors}
                for name, own in self.trunk.named_modules()
                if (tensors := unread(own))
            }
        for name, value in self._initial.pop(module, {}).items():
            init.copy_(getattr(module, name), value)

    def get_input_embeddings(self):
        """Return `None`. A trunk has no embedding table, and the name of its first layer differs between trunks."""
        return None

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | int | list[int] | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling | tuple:
        """
        Compute tokens, the pooled feature and hidden states.

        Args:
            pixel_values (`torch.Tensor` of shape `(B, 3, H, W)`):
                Normalised images.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                `True` returns all levels. One index or several return only these, with `None` in the other entries.
                [`~transformers.LlavaModel`] asks for its `vision_feature_layer` in this way.

        Raises:
            ValueError: if an index is 0 or out of range.
        """
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        levels = self._levels(wanted)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        self._switch_checkpointing(self.gradient_checkpointing and self.training)

        features, tokens = self._run_trunk(pixel_values.to(self.dtype), levels)
        pooled = self.trunk.forward_head(features, pre_logits=True)
        hidden = None
        if wanted is not False:
            hidden = tuple(tokens[level] if level in levels else None for level in range(self.last_level + 1))
        output = BaseModelOutputWithPooling(tokens[self.last_level], pooled, hidden)
        return output if return_dict else output.to_tuple()

    def _levels(self, wanted: bool | int | list[int]) -> set[int]:
        """Return the entries of `hidden_states` to fill, as positive indices."""
        # The tests compare identity because the index 0 equals False.
        if wanted is False:
            return set()
        if wanted is True:
            return set(range(1, self.last_level + 1))
        indices = [wanted] if isinstance(wanted, int) else list(wanted)
        levels = {index + self.last_level + 1 if index < 0 else index for index in indices}
        if not all(1 <= level <= self.last_level for level in levels):
            raise ValueError(
                f"output_hidden_states={wanted!r} asks {self.config.architecture} for a level that it does not have. "
                f"Allowed are 1 to {self.last_level} and -1 to {-self.last_level} (embeddings are not a level). "
                "Use output_hidden_states=-1 (in LlavaConfig: vision_feature_layer=-1)."
            )
        return levels

    def _switch_checkpointing(self, enable: bool):
        if enable == self._trunk_checkpoints:
            return
        try:
            self.trunk.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError) as error:
            raise ValueError(
                f"The timm model {self.config.architecture!r} has no gradient checkpointing. "
                "A trunk has it if its set_grad_checkpointing accepts True. "
                "Set gradient_checkpointing=False for this student."
            ) from error
        self._trunk_checkpoints = enable

    def _run_trunk(self, pixel_values: torch.Tensor, levels: set[int]) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Return the trunk's final features, and the tokens of each wanted level and of the last level."""
        if not hasattr(self.trunk, "forward_intermediates"):
            features = self.trunk.forward_features(pixel_values)
            return features, {self.last_level: to_tokens(features, getattr(self.trunk, "output_fmt", "NCHW"))}
        aligned = self._levels(self.config.feature_layers or False)
        kept = sorted(levels | aligned | {self.last_level})
        arguments = {"indices": [level - 1 for level in kept], "norm": False}
        if self.config.num_prefix_tokens:
            features, pairs = self.trunk.forward_intermediates(
                pixel_values, output_fmt="NLC", return_prefix_tokens=True, **arguments
            )
            maps = [torch.cat([prefix, patches], dim=1) for patches, prefix in pairs]
        else:
            features, maps = self.trunk.forward_intermediates(pixel_values, output_fmt="NCHW", **arguments)
            maps = align_levels(dict(zip(kept, maps, strict=True)), aligned)
            maps = [to_tokens(features_of_level, "NCHW") for features_of_level in maps.values()]
        return features, dict(zip(kept, maps, strict=True))


def unread(module: nn.Module) -> list[str]:
    """Return the names of a module's own tensors that neither a checkpoint nor timm's constants have filled."""
    constants = module._non_persistent_buffers_set if hasattr(module, "init_non_persistent_buffers") else ()
    return [
        name
        for name, tensor in (module._parameters | module._buffers).items()
        if tensor is not None and name not in constants and not getattr(tensor, "_is_hf_initialized", False)
    ]


class TimmCLIPModel(PreTrainedModel):
    """
    Dual encoder with the methods, names and outputs of [`~transformers.CLIPModel`], on a timm model as image tower.

    Paper: Learning Transferable Visual Models From Natural Language Supervision,
    https://huggingface.co/papers/2103.00020.
    """

    config_class = TimmCLIPConfig
    config: TimmCLIPConfig
    base_model_prefix = "clip"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["CLIPTextEmbeddings", "CLIPEncoderLayer", "TimmVisionModel"]

    def __init__(self, config: TimmCLIPConfig):
        super().__init__(config)
        self.projection_dim = config.projection_dim
        self.text_model = CLIPTextModel._from_config(config.text_config)
        self.vision_model = TimmVisionModel._from_config(config.vision_config)
        self.visual_projection = nn.Linear(config.vision_config.pooled_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.post_init()

    def initialize_weights(self):
        # transformers passes over modules without tensors of their own in a class of another package. The layers of
        # the text tower are such modules, so the tower initialises itself.
        self.text_model.initialize_weights()
        super().initialize_weights()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
        elif module in (self.visual_projection, self.text_projection):
            init.normal_(module.weight, std=module.in_features**-0.5 * self.config.initializer_factor)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    def get_image_features(
        self, pixel_values: torch.Tensor, return_dict: bool | None = None, **kwargs
    ) -> BaseModelOutputWithPooling | tuple:
        """Return the image tower's output, with `pooler_output` projected to (B, projection_dim), unnormalised."""
        output = self.vision_model(pixel_values=pixel_values, return_dict=True, **kwargs)
        output.pooler_output = self.visual_projection(output.pooler_output)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling | tuple:
        """Return the text tower's output, with `pooler_output` projected to (B, projection_dim), unnormalised."""
        output = self.text_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        output.pooler_output = self.text_projection(output.pooler_output)
        return output if self._as_dict(return_dict) else output.to_tuple()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        return_loss: bool | None = None,
        return_dict: bool | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        **kwargs,
    ) -> CLIPOutput | tuple:
        """
        Compare each text with each image.

        Args:
            input_ids (`torch.Tensor` of shape `(T, L)`), pixel_values (`torch.Tensor` of shape `(B, 3, H, W)`):
                Texts and images.
            return_loss (`bool`, *optional*):
                Also return the contrastive loss. It needs T = B, and text i belongs to image i.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                Entries of both towers. Entry 0, the embeddings, is `None` for the image tower.
        """
        vision_output = self.get_image_features(
            pixel_values, return_dict=True, output_hidden_states=without_embeddings(output_hidden_states), **kwargs
        )
        text_output = self.get_text_features(
            input_ids,
            attention_mask,
            position_ids,
            return_dict=True,
            # `None` means "off" for CLIPTextModel, so it is left out to keep the value of the config.
            **({} if output_hidden_states is None else {"output_hidden_states": output_hidden_states}),
            **kwargs,
        )
        image_embeds = nn.functional.normalize(vision_output.pooler_output, dim=-1)
        text_embeds = nn.functional.normalize(text_output.pooler_output, dim=-1)
        logits_per_text = text_embeds @ image_embeds.t() * self.logit_scale.exp()
        output = CLIPOutput(
            loss=image_text_contrastive_loss(logits_per_text) if return_loss else None,
            logits_per_image=logits_per_text.t(),
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            text_model_output=text_output,
            vision_model_output=vision_output,
        )
        return output if self._as_dict(return_dict) else output.to_tuple()

    def _as_dict(self, return_dict: bool | None) -> bool:
        return self.config.return_dict if return_dict is None else return_dict


__all__ = ["TimmCLIPModel", "TimmVisionModel"]
