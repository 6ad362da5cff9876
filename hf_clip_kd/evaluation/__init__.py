"""
Evaluators of a dual encoder: zero-shot classification and retrieval, as CLIP_benchmark defines and names them.

`hf_clip_kd.evaluation.compositional` shows pictures with captions that are nearly the same.
`hf_clip_kd.evaluation.vqa` measures it inside a vision-language model, by visual question answering.
`hf_clip_kd.evaluation.representation` looks at its features.
"""

from typing import Any

from ..recipe_io.results import load_results, save_results
from .build import build_evaluator
from .compositional import CompositionalEvaluator
from .evaluator import Evaluator, SequentialEvaluator, measure
from .multilingual import MultilingualRetrievalEvaluator
from .prompts import list_class_names, list_templates, load_class_names, load_templates
from .representation import RepresentationEvaluator
from .retrieval import RetrievalEvaluator
from .zero_shot import ZeroShotClassificationEvaluator

__all__ = [
    "CompositionalEvaluator",
    "Evaluator",
    "MultilingualRetrievalEvaluator",
    "RepresentationEvaluator",
    "RetrievalEvaluator",
    "SequentialEvaluator",
    "VQAEvaluator",
    "ZeroShotClassificationEvaluator",
    "build_evaluator",
    "build_vqa_evaluator",
    "list_class_names",
    "list_templates",
    "load_class_names",
    "load_results",
    "load_templates",
    "measure",
    "save_results",
]


def __getattr__(name: str) -> Any:
    # The library `evaluate` takes half a second to import, and only VQA needs it.
    if name in ("VQAEvaluator", "build_vqa_evaluator"):
        from . import vqa

        return getattr(vqa, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
