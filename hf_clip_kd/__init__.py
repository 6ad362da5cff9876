"""Distil CLIP-style teachers into small students inside the Hugging Face ecosystem, and give them to a LLaVA.

Importing this package registers its models with transformers' Auto classes.
"""

from .data import CLIPDataCollator, Stream, load_image_text, load_instruct
from .distillation import (
    CLIPDistillationTrainer,
    DistillationModel,
    DistillationTrainer,
    DistillationTrainingArguments,
)
from .evaluation import RetrievalEvaluator, SequentialEvaluator, ZeroShotClassificationEvaluator
from .losses import LOSSES, LossSum
from .losses.features import CLIPDims, CLIPFeatures
from .models import TimmCLIPConfig, TimmCLIPModel, list_models, load_clip
from .models.inherit import init_from_teacher
from .teachers import CLIPTeacher, FunctionTeacher, Teacher, TeacherEnsemble, TeacherProcessor, load_teacher
from .teachers.cache import AugmentationCollator, CacheWriter, ReplayCollator, TeacherCache
from .teachers.reader import load_reader
from .vlm import LlavaDataCollator, LlavaTrainer, LlavaTrainingArguments, build_llava, load_llava, save_llava

__all__ = [
    "LOSSES",
    "AugmentationCollator",
    "CLIPDataCollator",
    "CLIPDims",
    "CLIPDistillationTrainer",
    "CLIPFeatures",
    "CLIPTeacher",
    "CacheWriter",
    "DistillationModel",
    "DistillationTrainer",
    "DistillationTrainingArguments",
    "FunctionTeacher",
    "LlavaDataCollator",
    "LlavaTrainer",
    "LlavaTrainingArguments",
    "LossSum",
    "ReplayCollator",
    "RetrievalEvaluator",
    "SequentialEvaluator",
    "Stream",
    "Teacher",
    "TeacherCache",
    "TeacherEnsemble",
    "TeacherProcessor",
    "TimmCLIPConfig",
    "TimmCLIPModel",
    "ZeroShotClassificationEvaluator",
    "build_llava",
    "init_from_teacher",
    "list_models",
    "load_clip",
    "load_image_text",
    "load_instruct",
    "load_llava",
    "load_reader",
    "load_teacher",
    "save_llava",
]
