"""What losses over image tokens need, or a clear error: the tokens, and their width before there are any."""

from torch import Tensor

from .features import CLIPDims, CLIPFeatures

READ_LAYER = -2  # the entry of `hidden_states` that LLaVA reads


def check_token_dim(loss: str, owner: str, dims: CLIPDims) -> None:
    """
    Raises a `ValueError` if the width of a model's tokens is unknown.

    Args:
        loss (`str`), owner (`str`): The name of the loss that reads them, and `"student"` or `"teacher"`, for the error.
        dims ([`CLIPDims`]): The widths of that model.
    """
    if dims.token_dim is None:
        raise ValueError(
            f"The loss {loss!r} reads the {owner}'s image tokens, whose width is unknown: {dims}. It must be the channels "
            "of the layer that the loss reads: `CLIPDims(embed_dim, token_dim=...)`."
        )


def tokens_of(loss: str, owner: str, features: CLIPFeatures, name: str = "image_tokens") -> Tensor:
    """
    The tokens `(images, tokens, channels)` of a model, which lie on `features.image_grid`.

    Args:
        loss (`str`), owner (`str`): As for [`check_token_dim`].
        features ([`CLIPFeatures`]): The features of that model.
        name (`str`): Which of them, `"image_tokens"` or `"patch_embeds"`.

    Raises:
        ValueError: If the tokens or their grid are missing.
    """
    tokens = getattr(features, name)
    for field, value in ((name, tokens), ("image_grid", features.image_grid)):
        if value is None:
            raise ValueError(
                f"The {owner}'s features have no `{field}`, and the loss {loss!r} needs it. Encode the images with all that "
                f"`requested(losses)` asks for: `CLIPFeatures(..., {name}=tokens, image_grid=(rows, columns))`."
            )
    return tokens
