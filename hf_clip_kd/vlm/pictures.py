"""Pictures as a LLaVA sees them in training."""

from __future__ import annotations

import hashlib
from typing import Any

from PIL import Image

from ..data.reading.images import decode_with_alpha
from ..data.reading.transparency import flatten


def training_picture(image: Any) -> Image.Image:
    """
    Decode one image of the training data to RGB.

    Half of the transparent pictures lie on white, as in [`VQAEvaluator`]. The other half shows the colours below, as
    LLaVA's scripts and `transformers.pipeline` do. A hash of the pixels decides. So a [`FeatureCache`] and a run
    without one see the same picture, in each process and epoch.

    Args:
        image (`dict` or other): An image that [`decode_image`] takes.

    Raises:
        BrokenImageError: as for [`decode_image`].
    """
    picture = decode_with_alpha(image)
    if not picture.has_transparency_data:
        return picture
    return flatten(picture, dropped=hashlib.sha256(picture.tobytes()).digest()[0] % 2 == 1)
