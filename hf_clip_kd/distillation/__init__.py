"""A student with its losses, and a teacher beside it: the trainer, its arguments and the one module it wraps."""

from .model import DistillationModel
from .trainer import CLIPDistillationTrainer, DistillationTrainer
from .training_args import DistillationTrainingArguments

__all__ = ["CLIPDistillationTrainer", "DistillationModel", "DistillationTrainer", "DistillationTrainingArguments"]
