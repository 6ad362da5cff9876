"""
Measures of an image tower without a vision-language model: alignment with its teacher, its tokens, and probes of them.

Each diagnostic is a function; [`RepresentationEvaluator`] runs them all on one set of images.
"""

from .a_score import AScore
from .attentive_probe import AttentiveProbe, Question, question_hits
from .c_score import Keypoint, c_score
from .cka import MinibatchCKA, linear_cka
from .evaluator import NOT_SHARES, RepresentationEvaluator
from .gromov_wasserstein import gromov_wasserstein
from .heat_maps import HeatMap, heat_maps
from .layers import TowerOutput, read_patches, read_tower
from .patch_text import align_patches, points_at
from .probes import knn_probe, linear_probe
from .question_probe import ProbeScore, question_probe
from .shapes_keypoints import object_keypoints
from .shapes_masks import object_masks
from .text_geometry import language_model_features
from .tokens import TokenStatistics, effective_rank, share_of_outliers

__all__ = [
    "NOT_SHARES",
    "AScore",
    "AttentiveProbe",
    "HeatMap",
    "Keypoint",
    "MinibatchCKA",
    "ProbeScore",
    "Question",
    "RepresentationEvaluator",
    "TokenStatistics",
    "TowerOutput",
    "align_patches",
    "c_score",
    "effective_rank",
    "gromov_wasserstein",
    "heat_maps",
    "knn_probe",
    "language_model_features",
    "linear_cka",
    "linear_probe",
    "object_keypoints",
    "object_masks",
    "points_at",
    "question_hits",
    "question_probe",
    "read_patches",
    "read_tower",
    "share_of_outliers",
]
