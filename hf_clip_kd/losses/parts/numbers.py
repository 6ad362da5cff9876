"""Numbers among the options of a loss."""

import sys
from typing import Any


def is_finite(value: Any) -> bool:
    """Return whether an option is a plain number that a float can hold. `math.isfinite` raises an error for others."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
