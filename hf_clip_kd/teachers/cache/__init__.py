"""Features of frozen teachers, computed once and read from files in every later run (*dataset reinforcement*)."""

from .augmentations import AugmentationCollator
from .reader import TeacherCache
from .replay import ReplayCollator
from .writer import CacheWriter

__all__ = ["AugmentationCollator", "CacheWriter", "ReplayCollator", "TeacherCache"]
