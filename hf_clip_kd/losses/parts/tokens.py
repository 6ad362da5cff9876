"""Access of losses to image tokens and their width, with clear errors."""

from torch import Tensor

from ..features import CLIPDims, CLIPFeatures

READ_LAYER = -2  # LLaVA reads this entry of `hidden_states`.


def check_token_dim(loss: str, owner: str, dims: CLIPDims) -> None:
    """
    Check that the width of a model's tokens is known.

    Args:
        loss (`str`), owner (`str`): Name of the loss, and `"student"` or `"teacher"`, for the error.
        dims ([`CLIPDims`]): Widths of the model.

    Raises:
        ValueError: if not.
    """
    if dims.token_dim is None:
        raise ValueError(
            f"The loss {loss!r} reads the {owner}'s image tokens, whose width is unknown: {dims}. It must be the "
            "channels of the layer that the loss reads. Pass it: `CLIPDims(embed_dim, token_dim=...)`."
        )


def tokens_of(loss: str, owner: str, features: CLIPFeatures, name: str = "image_tokens") -> Tensor:
    """
    Return the tokens `(images, tokens, channels)` of a model, which lie on the `image_grid` of the features.

    Args:
        loss (`str`), owner (`str`): Names for the error, as in [`check_token_dim`].
        features ([`CLIPFeatures`]): Features of the model, of one layer, as [`CLIPFeatures.at`] has them.
        name (`str`, *optional*, defaults to `"image_tokens"`): That, or `"patch_embeds"`.

    Raises:
        ValueError: if the tokens or their grid are missing.
    """
    tokens = getattr(features, name)
    for field, value in ((name, tokens), ("image_grid", features.image_grid)):
        if value is None:
            raise ValueError(
                f"The {owner}'s features have no `{field}`, and the loss {loss!r} needs it. Features must hold all "
                f"that `requested(losses)` names. Pass it: `CLIPFeatures(..., {name}=tokens, image_grid=(rows, "
                "columns))`."
            )
    return tokens
