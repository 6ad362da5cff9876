"""What a dual encoder is worth: zero-shot classification and retrieval, as CLIP_benchmark defines and names them."""

from .building import build_evaluator
from .evaluator import Evaluator, SequentialEvaluator
from .prompts import list_class_names, list_templates, load_class_names, load_templates
from .results import load_results, measure, save_results
from .retrieval import RetrievalEvaluator
from .zero_shot import ZeroShotClassificationEvaluator

__all__ = [
    "Evaluator",
    "RetrievalEvaluator",
    "SequentialEvaluator",
    "ZeroShotClassificationEvaluator",
    "build_evaluator",
    "list_class_names",
    "list_templates",
    "load_class_names",
    "load_results",
    "load_templates",
    "measure",
    "save_results",
]
