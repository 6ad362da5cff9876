"""YAML with safe types only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .fault import ForeignFileError, kind_of
from .json_text import ESCAPED_HALF, HALF_PAIR, HALF_PAIR_PROBLEM
from .text import read_text

MAX_VALUES = 1_000_000
"""Largest number of values in a file, with its anchors written out."""

_LETTERS = 16  # A text counts as a value for each so many letters.


def read_yaml(path: str | Path, *, allowed: str, fix: str) -> dict[str, Any]:
    """
    Read a YAML file that holds a mapping, with safe types only.

    Args:
        path (`str` or `Path`): File.
        allowed, fix (`str`): As in [`read_text`].

    Returns:
        `dict`; empty for an empty file.

    Raises:
        ForeignFileError: As in [`read_text`] and [`root_node`], or the file is no YAML, or holds no mapping.
    """
    words = {"allowed": allowed, "fix": fix}
    text = read_yaml_text(path, **words)
    with yaml_faults(path, **words):
        loader = yaml.SafeLoader(text)
        node = root_node(loader, path, **words)
        content = None if node is None else loader.construct_document(node)
    if content is not None and not isinstance(content, dict):
        raise ForeignFileError(path, f"it holds {kind_of(content)}, not a dict", **words)
    return content or {}


def read_yaml_text(path: str | Path, *, allowed: str, fix: str) -> str:
    """
    Read the text of a YAML file for a loader of your own.

    Raises:
        ForeignFileError: As in [`read_text`], or a text in it has half of a surrogate pair.
    """
    text = read_text(path, allowed=allowed, fix=fix)
    # `yaml` makes two halves even of a whole pair, as JSON writes it.
    if ESCAPED_HALF.search(text):
        with yaml_faults(path, allowed=allowed, fix=fix):
            for token in yaml.scan(text, yaml.SafeLoader):
                if HALF_PAIR.search(getattr(token, "value", None) or ""):
                    problem = f"line {token.start_mark.line + 1} {HALF_PAIR_PROBLEM}"
                    raise ForeignFileError(path, problem, allowed=allowed, fix=fix)
    return text


def root_node(loader: yaml.SafeLoader, path: str | Path, *, allowed: str, fix: str) -> yaml.Node | None:
    """
    Return the node of the whole content, `None` for an empty file.

    Raises:
        ForeignFileError: Its anchors stand for more than `MAX_VALUES` values, for long texts, or for themselves.
    """
    node = loader.get_single_node()
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        # A few lines of anchors, each a list of the one before, may stand for billions of values.
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value) // _LETTERS  # A reader may write the text out for each anchor.
        if id(node) not in sizes:
            sizes[id(node)] = MAX_VALUES + 1  # It stands while the parts are counted: a loop counts as too many.
            pairs = isinstance(node, yaml.MappingNode)
            parts = [part for pair in node.value for part in pair] if pairs else node.value
            sizes[id(node)] = min(1 + sum(map(size, parts)), MAX_VALUES + 1)
        return sizes[id(node)]

    if node is not None and size(node) > MAX_VALUES:
        most = f"{MAX_VALUES:,} values or {MAX_VALUES * _LETTERS:,} letters"
        problem = f"its anchors stand for more than {most}, or for themselves"
        raise ForeignFileError(path, problem, allowed=allowed, fix=fix)
    return node


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
