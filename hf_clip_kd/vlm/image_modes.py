"""Ways to make an image of any shape the square that a tower sees."""

from transformers import BaseImageProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

IMAGE_MODES = ("square", "pad", "crop")


def square_image_processor(image_processor: BaseImageProcessor, image_mode: str) -> LlavaImageProcessorPil:
    """
    Return LLaVA's image processor with the size, mean, standard deviation and filter of a tower's own.

    Args:
        image_processor ([`~transformers.BaseImageProcessor`]): The tower's own.
        image_mode (`str`):
            - `"square"`: the whole image, warped to the square (TinyLLaVA).
            - `"pad"`: the whole image, on a square of the mean colour (LLaVA-1.5).
            - `"crop"`: the centre of the image; its shorter edge fits (mostly the tower's own evaluation).

    Returns:
        [`~transformers.LlavaImageProcessorPil`]: `crop_size` names the side of its images in every mode.

    Raises:
        ValueError: The mode is unknown, or the tower's images are not square.
    """
    if image_mode not in IMAGE_MODES:
        raise ValueError(
            f"image_mode={image_mode!r} is unknown. Allowed are {', '.join(IMAGE_MODES)}. Write for example "
            "build_llava(..., image_mode='square')."
        )
    side = image_side(image_processor)
    square = {"height": side, "width": side}
    return LlavaImageProcessorPil(
        size={"shortest_edge": side} if image_mode == "crop" else square,
        crop_size=square,
        do_center_crop=image_mode == "crop",
        do_pad=image_mode == "pad",
        resample=image_processor.resample,
        do_rescale=image_processor.do_rescale,
        rescale_factor=image_processor.rescale_factor,
        do_normalize=image_processor.do_normalize,
        # SigLIP's processor may leave out values that equal the library's default.
        image_mean=list(image_processor.image_mean),
        image_std=list(image_processor.image_std),
    )


def image_side(image_processor: BaseImageProcessor) -> int:
    """Return the side in pixels of the square images that an image processor makes."""
    cropped = getattr(image_processor, "do_center_crop", False) and image_processor.crop_size
    size = (image_processor.crop_size if cropped else getattr(image_processor, "size", None)) or {}
    height, width = size.get("height"), size.get("width")
    if not height or height != width:
        raise ValueError(
            f"{type(image_processor).__name__} makes images of {dict(size) or 'any shape'}. The tower of a LLaVA sees "
            "squares of one size, as its number of image tokens is fixed. Pass such an image processor: "
            "build_llava(..., image_processor=CLIPImageProcessorPil(size={'height': 224, 'width': 224}, "
            "do_center_crop=False))."
        )
    return height


__all__ = ["IMAGE_MODES", "square_image_processor"]
