"""Errors of the loaders of other libraries, as errors for the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def loader_faults(message: Callable[[Exception], str]) -> Iterator[None]:
    """
    Turn every error of a library's loader into a `ValueError`. A damaged file makes them raise errors of any type.

    A missing package stays an `ImportError`.

    Args:
        message (`Callable`): Maps the error to the text of the `ValueError`.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(message(error)) from error


def reason_of(error: Exception) -> str:
    """Return the first line of an error, without a period."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


__all__ = ["loader_faults", "reason_of"]
