"""LiftedTeacher: the embeddings and texts of a dual encoder, with the image tokens of another tower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data.transforms.view import ImageView
from ..losses.features import CLIPFeatures, FeatureRequest
from .base import Teacher


class LiftedTeacher(Teacher):
    """
    A dual encoder whose image tokens come from its own tower as a LLaVA has tuned it.

    Such a tower is lifted: a language model has taught it, as in
    [Perception Encoder](https://huggingface.co/papers/2504.13181). Its pooled embedding has left the texts. So losses
    on embeddings read the dual encoder, and losses on tokens the lifted tower.
    [EUPE](https://huggingface.co/papers/2603.22387) distils from such tokens. Both towers see the same pixels, those
    of the dual encoder. Patches in the joint space stay the dual encoder's.

    Args:
        embeds ([`Teacher`]): The dual encoder.
        tokens ([`Teacher`]): The tower with the tokens, such as [`CLIPTeacher`] of a LLaVA's folder.

    Attributes:
        name_or_path (`str`): Both names.

    Raises:
        ValueError: The two want images of another size, mean or standard deviation.

    Example:

    ```python
    load_teacher({"name": "outputs/demo/teacher", "tokens_from": "outputs/lift/teacher"})
    ```
    """

    def __init__(self, embeds: Teacher, tokens: Teacher):
        super().__init__(embeds.own_dtype, embeds.own_device)
        self.embeds, self.tokens, self.processor = embeds, tokens, embeds.processor
        self.name_or_path = f"{embeds.name_or_path} with the tokens of {tokens.name_or_path}"
        views = [_view(teacher) for teacher in (embeds, tokens)]
        if views[0] != views[1]:
            raise ValueError(
                f"The teacher {embeds.name_or_path!r} sees images of (size, mean, std) {views[0]}, and its "
                f"`tokens_from` {tokens.name_or_path!r} {views[1]}. Both must see the same pixels, as a LLaVA on the "
                "very tower of the first does. Give the two as a list, an ensemble, in which each has its own view."
            )
        self.dims, self.image_grid = embeds.dims, None

    @property
    def logit_scale(self) -> Tensor | None:
        """Log of the dual encoder's scale."""
        return self.embeds.logit_scale

    @property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of the tokens of each layer that the losses read."""
        return self.tokens.grids

    @property
    def logit_bias(self) -> Tensor | None:
        """The dual encoder's bias."""
        return self.embeds.logit_bias

    def prepare(self, request: FeatureRequest) -> None:
        """
        Promise features beyond the embeddings, see [`CLIPTeacher.prepare`].

        Raises:
            ValueError: A model cannot give them, or tokens and patches in the joint space lie on two grids.
        """
        self.embeds.prepare(FeatureRequest(patch_embeds=request.patch_embeds))
        self.tokens.prepare(replace(request, patch_embeds=False))
        grids = [grid for grid in (self.tokens.image_grid, self.embeds.image_grid) if grid is not None]
        if len(set(grids)) > 1:
            raise ValueError(
                f"The teacher {self.name_or_path!r} has tokens on the grid {grids[0]} and patches with embeddings on "
                f"{grids[1]}. One run reads one grid. Leave out the losses of one of them ('patch_text' reads "
                "embeddings), or take the tower that the LLaVA was made of."
            )
        self.request, self.image_grid = request, grids[0] if grids else None
        own = self.embeds.dims
        self.dims = replace(self.tokens.dims, embed_dim=own.embed_dim, has_text=own.has_text, has_bias=own.has_bias)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor | None = None, **texts: Any) -> CLIPFeatures:
        """Embed a batch; arguments and result are those of [`CLIPTeacher.forward`]."""
        features = self.embeds(pixel_values, **texts)
        if pixel_values is None or not self.request.teacher_reads:
            return features
        kept = {name: value for name, value in vars(features).items() if name in EMBEDDINGS}
        return replace(self.tokens(pixel_values), image_grid=self.image_grid, **kept)

    def place(self, device: str | torch.device) -> None:
        """Send both models to `device`, unless they have devices of their own."""
        self.embeds.place(device)
        self.tokens.place(device)


# Fields of [`CLIPFeatures`] that are the dual encoder's. All others are of the tower with the tokens.
EMBEDDINGS = (
    "image_embeds",
    "text_embeds",
    "synthetic_text_embeds",
    "patch_embeds",
    "logit_scale",
    "logit_bias",
)


def _view(teacher: Teacher) -> tuple:
    """Return the size of a teacher's images, and mean and standard deviation of their channels, rounded."""
    view = ImageView.of(teacher.processor.image_processor)
    return view.size, *(tuple(round(value, 3) for value in values) for values in (view.mean, view.std))


__all__ = ["LiftedTeacher"]
