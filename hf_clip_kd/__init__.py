"""Distil CLIP-style teachers into small students inside the Hugging Face ecosystem, and give them to a LLaVA.

Importing this package registers its models with transformers' Auto classes.
"""

from .data import CLIPDataCollator, load_image_text, load_instruct
from .distillation_model import DistillationModel
from .evaluation import RetrievalEvaluator, SequentialEvaluator, ZeroShotClassificationEvaluator
from .features import CLIPDims, CLIPFeatures
from .losses import LOSSES, LossSum
from .models import TimmCLIPConfig, TimmCLIPModel, list_models, load_clip
from .teacher import CLIPTeacher
from .trainer import CLIPDistillationTrainer, DistillationTrainer
from .training_args import DistillationTrainingArguments
from .vlm import LlavaDataCollator, LlavaTrainer, LlavaTrainingArguments, build_llava, load_llava, save_llava

__all__ = [
    "LOSSES",
    "CLIPDataCollator",
    "CLIPDims",
    "CLIPDistillationTrainer",
    "CLIPFeatures",
    "CLIPTeacher",
    "DistillationModel",
    "DistillationTrainer",
    "DistillationTrainingArguments",
    "LlavaDataCollator",
    "LlavaTrainer",
    "LlavaTrainingArguments",
    "LossSum",
    "RetrievalEvaluator",
    "SequentialEvaluator",
    "TimmCLIPConfig",
    "TimmCLIPModel",
    "ZeroShotClassificationEvaluator",
    "build_llava",
    "list_models",
    "load_clip",
    "load_image_text",
    "load_instruct",
    "load_llava",
    "save_llava",
]
