"""YAML with safe types only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .fault import ForeignFileError, kind_of
from .json_text import ESCAPED_HALF, HALF_PAIR, HALF_PAIR_PROBLEM
from .text import line_of, read_text


def read_yaml(path: str | Path, *, allowed: str, fix: str) -> dict[str, Any]:
    """
    Read a YAML file that holds a mapping, with safe types only.

    Args:
        path (`str` or `Path`): File.
        allowed, fix (`str`): As in [`read_text`].

    Returns:
        `dict`; empty for an empty file.

    Raises:
        ForeignFileError: As in [`read_text`], or the file is no YAML, or holds no mapping.
    """
    words = {"allowed": allowed, "fix": fix}
    text = read_text(path, **words)
    with yaml_faults(path, **words):
        content = yaml.safe_load(text)
    if content is not None and not isinstance(content, dict):
        raise ForeignFileError(path, f"it holds {kind_of(content)}, not a dict", **words)
    if (found := ESCAPED_HALF.search(text)) and any(HALF_PAIR.search(word) for word in _texts(content)):
        raise ForeignFileError(path, f"line {line_of(text, found.start())} {HALF_PAIR_PROBLEM}", **words)
    return content or {}


@contextmanager
def yaml_faults(path: str | Path, *, allowed: str, fix: str) -> Iterator[None]:
    """Turn every fault that `yaml` finds in the text of a file into a [`ForeignFileError`] with its line."""
    try:
        yield
    except ForeignFileError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or error
        problem = f"{f'line {mark.line + 1}, ' if mark else ''}{' '.join(str(reason).split())}"
        raise ForeignFileError(f"{path} is no valid YAML: {problem}. {allowed} {fix}") from error
    except RecursionError as error:
        raise ForeignFileError(path, "it nests too deep", allowed=allowed, fix=fix) from error
    # Python builds the date 2026-13-01 and the number of 5000 digits, not `yaml`. JSON has no dates as keys.
    except (TypeError, ValueError) as error:
        raise ForeignFileError(path, f"it has a wrong value ({error})", allowed=allowed, fix=fix) from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(part)
