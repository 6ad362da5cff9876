"""
Measures of an image tower without a vision-language model: alignment with its teacher, its tokens, and probes of them.

Each diagnostic is a function; [`RepresentationEvaluator`] runs them all on one set of images.
"""

from .cka import MinibatchCKA, linear_cka
from .evaluator import NOT_SHARES, RepresentationEvaluator
from .layers import TowerOutput, read_patches, read_tower
from .patch_text import align_patches, points_at
from .probes import knn_probe, linear_probe
from .question_probe import AttentiveProbe, Question, question_probe
from .shapes_masks import object_masks
from .tokens import TokenStatistics, effective_rank, share_of_outliers

__all__ = [
    "NOT_SHARES",
    "AttentiveProbe",
    "MinibatchCKA",
    "Question",
    "RepresentationEvaluator",
    "TokenStatistics",
    "TowerOutput",
    "align_patches",
    "effective_rank",
    "knn_probe",
    "linear_cka",
    "linear_probe",
    "object_masks",
    "points_at",
    "question_probe",
    "read_patches",
    "read_tower",
    "share_of_outliers",
]
