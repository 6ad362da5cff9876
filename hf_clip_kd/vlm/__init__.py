"""A stock LLaVA of any vision tower and any causal language model: build, train in two stages, save, load."""

from ..models.load_tower import load_tower
from ..models.towers.checksum import tower_checksum
from .adapters import add_lora, merge_adapter, quantization
from .build import build_llava
from .chat_templates import get_chat_template, list_chat_templates
from .collator import LlavaDataCollator
from .feature_cache import FeatureCache, image_name, reading_features, stored_pictures
from .feature_scale import FeatureScale, FeatureStatistics, measure_features
from .image_modes import square_image_processor
from .pictures import training_picture
from .saving import load_llava, save_llava
from .teacher import LlavaTeacher, check_teacher
from .trainable import set_trainable
from .trainer import LlavaTrainer
from .training_args import LlavaTrainingArguments

__all__ = [
    "FeatureCache",
    "FeatureScale",
    "FeatureStatistics",
    "LlavaDataCollator",
    "LlavaTeacher",
    "LlavaTrainer",
    "LlavaTrainingArguments",
    "add_lora",
    "build_llava",
    "check_teacher",
    "get_chat_template",
    "image_name",
    "list_chat_templates",
    "load_llava",
    "load_tower",
    "measure_features",
    "merge_adapter",
    "quantization",
    "reading_features",
    "save_llava",
    "set_trainable",
    "square_image_processor",
    "stored_pictures",
    "tower_checksum",
    "training_picture",
]
