"""Buffers that keep their precision under an engine that casts its module."""

import torch
from torch import nn


class PreciseBuffers(nn.Module):
    """
    Keep the precision of the module's own floating buffers, which are running means, when the module is cast to less.

    DeepSpeed turns the floating buffers of a module into halves. There a variance is mostly rounding. A running mean
    stops, since a hundredth of a difference is less than a half can tell.
    """

    def _apply(self, fn, recurse: bool = True):
        own = {name: buffer for name, buffer in self._buffers.items() if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, precise in own.items():
            if torch.finfo(self._buffers[name].dtype).bits < torch.finfo(precise.dtype).bits:
                self._buffers[name] = precise.to(self._buffers[name].device)
        return self
