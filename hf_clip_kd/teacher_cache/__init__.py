"""What teachers say of every sample, computed once and read from files in every later run (*dataset reinforcement*)."""

from .reader import TeacherCache
from .writer import CacheWriter

__all__ = ["CacheWriter", "TeacherCache"]
