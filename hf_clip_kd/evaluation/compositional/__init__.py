"""Compositional tests of a dual encoder: does it know which colour is whose, and who is where?"""

from .benchmarks import COMPOSITIONAL, CaptionBenchmark
from .build import OPTIONS, build_compositional
from .cases import Case
from .evaluator import CompositionalEvaluator

__all__ = ["COMPOSITIONAL", "OPTIONS", "CaptionBenchmark", "Case", "CompositionalEvaluator", "build_compositional"]
