"""Distillation losses: the table of their names, and their weighted sum. A new loss is a file and a line there."""

from .base import DistillationLoss
from .ensemble import EnsembleLoss
from .loss_sum import LossSum
from .objectives import OBJECTIVES
from .specification import requested, requested_by_all
from .table import LOSSES

__all__ = ["LOSSES", "OBJECTIVES", "DistillationLoss", "EnsembleLoss", "LossSum", "requested", "requested_by_all"]
