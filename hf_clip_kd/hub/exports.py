"""Files of an earlier export that stand in a repository beside a newer model."""

from collections.abc import Collection
from fnmatch import fnmatchcase

# Only an export has this file, so the forms below are ours where it stands.
PARITY = "parity.json"
# Files that an export adds to the model at the root.
FORMS = (
    PARITY,
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "onnx/text_model.onnx",
    "onnx/text_model_int8.onnx",
    "onnx/vision_model.onnx",
    "onnx/vision_model_int8.onnx",
    "vision_model/config.json",
    "vision_model/model.safetensors",
    "vision_model/preprocessor_config.json",
    "vision_model/*.py",
)


def stale_forms(there: Collection[str], brought: Collection[str]) -> list[str]:
    """
    Return the files of an earlier export that a push would leave beside another model, by their names.

    Args:
        there (`Collection[str]`): Files of the repository. Without `parity.json` none of them is of an export.
        brought (`Collection[str]`): Files of the push.
    """
    if PARITY not in there:
        return []
    return sorted(path for path in there if path not in brought and any(fnmatchcase(path, form) for form in FORMS))
