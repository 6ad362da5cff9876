"""Distil CLIP-style teachers into small students inside the Hugging Face ecosystem, and give them to a LLaVA.

Importing this package registers its models with transformers' Auto classes. All else is imported at its first use.
"""

from importlib import import_module
from typing import Any

from . import models as models  # registers them

_PLACES = {
    "data": ("CLIPDataCollator", "Stream", "load_image_text", "load_instruct"),
    "distillation": (
        "CLIPDistillationTrainer",
        "DistillationModel",
        "DistillationTrainer",
        "DistillationTrainingArguments",
    ),
    "evaluation": ("RetrievalEvaluator", "SequentialEvaluator", "ZeroShotClassificationEvaluator"),
    "losses": ("LOSSES", "LossSum"),
    "losses.features": ("CLIPDims", "CLIPFeatures"),
    "models": ("TimmCLIPConfig", "TimmCLIPModel", "list_models", "load_clip"),
    "models.inherit": ("init_from_teacher",),
    "teachers": (
        "CLIPTeacher",
        "FunctionTeacher",
        "Teacher",
        "TeacherEnsemble",
        "TeacherProcessor",
        "load_teacher",
    ),
    "teachers.cache": ("AugmentationCollator", "CacheWriter", "ReplayCollator", "TeacherCache"),
    "teachers.reader": ("load_reader",),
    "vlm": (
        "LlavaDataCollator",
        "LlavaTrainer",
        "LlavaTrainingArguments",
        "build_llava",
        "load_llava",
        "save_llava",
    ),
}
_PLACE = {name: place for place, names in _PLACES.items() for name in names}
_FOLDERS = {place.split(".")[0] for place in _PLACES} | {"hub", "recipe_io", "training"}

__all__ = sorted(_PLACE)


def __getattr__(name: str) -> Any:
    if name in _PLACE:
        return getattr(import_module(f".{_PLACE[name]}", __name__), name)
    if name in _FOLDERS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
