"""[`ReducedTower`]: any image tower, with fewer tokens for a language model."""

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pixel_unshuffle
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_reduced_tower import ReducedTowerConfig


class ReducedTower(PreTrainedModel):
    """
    An image tower whose hidden states are reduced from `tower_grid²` patches to the tokens of `grid`.

    Class and register tokens are dropped. `last_hidden_state` and `pooler_output` stay those of the tower.

    Attributes:
        tower ([`~transformers.PreTrainedModel`]): The tower with all its tokens.
    """

    config_class = ReducedTowerConfig
    config: ReducedTowerConfig
    base_model_prefix = "reduced"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: ReducedTowerConfig):
        super().__init__(config)
        self.tower = AutoModel.from_config(config.tower_config)
        self.post_init()

    def get_input_embeddings(self):
        """Return that of the tower."""
        return self.tower.get_input_embeddings()

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | int | list[int] | None = None, **kwargs
    ) -> BaseModelOutputWithPooling:
        """
        Run the tower, and reduce its hidden states.

        Args:
            pixel_values (`torch.Tensor` of shape `(B, 3, image_size, image_size)`): Normalised images.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                `True` returns all entries, with `None` for those of another grid. Indices return only these, by their
                index. [`~transformers.LlavaModel`] asks for its `vision_feature_layer` in this way.
        """
        kwargs |= {"output_hidden_states": output_hidden_states, "return_dict": True}
        output = self.tower(pixel_values, **kwargs)
        # The tests compare identity because the index 0 equals False.
        if output_hidden_states is True:
            count = self.config.tower_prefix_tokens + self.config.tower_grid**2
            fits = [states is not None and states.shape[1] == count for states in output.hidden_states]
            pairs = zip(output.hidden_states, fits, strict=True)
            output.hidden_states = tuple(self.reduce(states) if fit else None for states, fit in pairs)
        elif output_hidden_states is not None and output_hidden_states is not False:
            wanted = [output_hidden_states] if isinstance(output_hidden_states, int) else output_hidden_states
            output.hidden_states = {index: self.reduce(output.hidden_states[index]) for index in wanted}
        return output

    def reduce(self, tokens: Tensor) -> Tensor:
        """Return `(B, side², hidden_size)` for tokens of the tower, `(B, prefix + tower_grid², width)`."""
        grid, side = self.config.tower_grid, self.config.grid[0]
        maps = tokens[:, self.config.tower_prefix_tokens :].transpose(1, 2).unflatten(2, (grid, grid))
        shuffles = self.config.reduction == "shuffle"
        maps = pixel_unshuffle(maps, grid // side) if shuffles else adaptive_avg_pool2d(maps, side)
        return maps.flatten(2).transpose(1, 2)


def inner_tower(tower: PreTrainedModel) -> PreTrainedModel:
    """Return the tower inside of a [`ReducedTower`], and any other tower itself."""
    return tower.tower if isinstance(tower, ReducedTower) else tower


__all__ = ["ReducedTower", "inner_tower"]
