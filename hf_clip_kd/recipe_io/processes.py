"""Processes that share the work of a recipe, on GPUs and on CPUs."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def process_state() -> PartialState:
    """
    Return accelerate's state of this process among those that share the work.

    accelerate does not see CPUs for itself. It would take each of several processes on CPUs for one alone. All of them
    would then do the whole work and write the same files.
    """
    return PartialState(cpu=not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"))
