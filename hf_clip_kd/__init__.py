"""Distil CLIP-style teachers into small students inside the Hugging Face ecosystem, and give them to a LLaVA.

Importing this package registers its models with transformers' Auto classes.
"""

from .data import AugmentationCollator, CLIPDataCollator, ReplayCollator, Stream, load_image_text, load_instruct
from .distillation_model import DistillationModel
from .evaluation import RetrievalEvaluator, SequentialEvaluator, ZeroShotClassificationEvaluator
from .features import CLIPDims, CLIPFeatures
from .inherit import init_from_teacher
from .losses import LOSSES, LossSum
from .models import TimmCLIPConfig, TimmCLIPModel, list_models, load_clip
from .teacher import CLIPTeacher
from .teacher_base import Teacher
from .teacher_cache import CacheWriter, TeacherCache
from .teacher_ensemble import TeacherEnsemble, load_teacher
from .teacher_function import FunctionTeacher
from .teacher_processor import TeacherProcessor
from .trainer import CLIPDistillationTrainer, DistillationTrainer
from .training_args import DistillationTrainingArguments
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
    "load_teacher",
    "save_llava",
]
