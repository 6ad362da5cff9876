"""Columns that a source has beside images and captions: their types, and values as Arrow stores them."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pyarrow as pa
from datasets.features.features import cast_to_python_objects

TEXT = datasets.Value("string")
UNDECODED = datasets.Image(decode=False)
_OBJECTS = (dict, list, tuple)
_MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)


def column_feature(values: list[Any]) -> Any:
    """
    Return the type of a column from some of its values.

    Objects have other fields in each row, so they are stored as JSON. The same holds for a column of mixed types, or
    of no value so far.
    """
    there = [value for value in values if value is not None]
    if not there or any(isinstance(value, dict) or _holds_objects(value) for value in there):
        return datasets.Json()
    if all(isinstance(value, str) for value in there):
        return TEXT
    array = _array(there, None)
    if array is None:
        return datasets.Json()
    return datasets.Features.from_arrow_schema(pa.schema({"column": array.type}))["column"]


def column_array(values: list[Any], feature: Any) -> tuple[pa.Array, list[Any]]:
    """
    Return a column as Arrow stores it, and the values that do not fit its type. They become null.

    Args:
        values (`list`): Values of some rows.
        feature: Type of the column in `datasets`: that of [`column_feature`], an image, or a list of strings.
    """
    kind = datasets.Features({"column": feature}).arrow_schema.field(0).type
    if isinstance(feature, datasets.Json):
        values, kind = [None if value is None else _json(value) for value in values], pa.string()
    elif feature == TEXT:
        values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
    array, odd = _array(values, kind), []
    if array is None:
        odd = [value for value in values if _array([value], kind) is None]
        array = _array([None if _array([value], kind) is None else value for value in values], kind)
    return array.cast(pa.json_()) if isinstance(feature, datasets.Json) else array, odd


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array | None:
    """Return the values as Arrow stores them, or `None` if one does not fit."""
    if kind is not None and pa.types.is_integer(kind) and any(isinstance(value, float) for value in values):
        return None  # Arrow would cut the decimal places without a word.
    try:
        return pa.array(cast_to_python_objects(values, only_1d_for_numpy=True), type=kind)
    except _MISFITS:
        return None


def _holds_objects(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, _OBJECTS) for item in value)


def _json(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):  # Bytes and arrays are no JSON.
        return json.dumps(repr(value))
    try:
        datasets.Json().decode_example(text)
    except ValueError:  # It reads no integer of more than 64 bits.
        text = json.dumps(json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else digits))
    return text
