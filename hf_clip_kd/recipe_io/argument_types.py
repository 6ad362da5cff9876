"""Turn the type hint of a dataclass field into the converter of its flag."""

import argparse
import copy
import dataclasses
import json
import types
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from transformers import HfArgumentParser

NULL = "null"


class FlagParser(HfArgumentParser):
    """Parse flags as transformers does, dicts and lists as JSON, and `null` where None is allowed."""

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        hint = field.type
        field = copy.copy(field)  # The parent rewrites `field.type`, and this field belongs to the class.
        kinds = [kind for kind in (dict, list) if _holds(hint, kind)]
        if kinds:
            field.type = str  # A stand-in: the parent knows no dicts, and lists only as words.
        HfArgumentParser._parse_dataclass_field(parser, field)
        action = parser._option_string_actions[f"--{field.name}"]
        convert = _json_converter(hint, kinds) if kinds else action.type
        action.type = _or_null(convert) if optional(hint) else convert
        if optional(hint) and action.choices is not None:
            action.choices = [*action.choices, None]


def _json_converter(hint: Any, kinds: list[type]) -> Callable[[str], Any]:
    words_allowed = str in _members(hint)  # It may be the path of a JSON file.
    numbers = tuple(kind for kind in (int, float) if kind in _members(hint))
    start = {dict: "{", list: "["}

    def convert(text: str) -> Any:
        if words_allowed and not text.startswith(tuple(start[kind] for kind in kinds)):
            return text
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no JSON ({error})") from error
        if not isinstance(value, (*kinds, *numbers)) or isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"{text!r} is {type(value).__name__}")
        element = element_type(hint)
        if isinstance(value, list) and element in (str, int, float):
            accepted = (int, float) if element is float else element
            for item in value:
                if not isinstance(item, accepted) or isinstance(item, bool):
                    raise argparse.ArgumentTypeError(f"{item!r} in {text!r} is not of type {element.__name__}")
            try:
                value = [element(item) for item in value]
            except OverflowError as error:
                raise argparse.ArgumentTypeError(f"{text:.60} holds a number that no float can hold") from error
        return value

    return convert


def _or_null(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert_or_null(text: str) -> Any:
        return None if text == NULL else convert(text)

    convert_or_null.__name__ = getattr(convert, "__name__", "value")  # Errors of argparse name it.
    return convert_or_null


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def optional(hint: Any) -> bool:
    """Return whether a field of this type may be None."""
    return type(None) in _members(hint)


def _holds(hint: Any, kind: type) -> bool:
    return any((get_origin(member) or member) is kind for member in _members(hint))


def element_type(hint: Any) -> Any:
    """Return `T` of a `list[T]` in `hint`, else None."""
    lists = [member for member in _members(hint) if get_origin(member) is list]
    return get_args(lists[0])[0] if lists else None


def allowed_words(hint: Any) -> str:
    """Describe the values of a field in words, for errors."""
    words = []
    for member in _members(hint):
        origin = get_origin(member) or member
        if origin is Literal:
            words += [repr(choice) for choice in get_args(member)]
        elif isinstance(origin, type) and issubclass(origin, Enum):
            words += [repr(choice.value) for choice in origin]
        elif origin is dict:
            words.append("a mapping (on the command line as JSON, `'{\"a\": 1}'`)")
        elif origin is list:
            words.append("a list (on the command line as JSON, `'[1, 2]'`)")
        else:
            plain = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): NULL}
            words.append(plain.get(origin, getattr(origin, "__name__", str(origin))))
    return " or ".join(words)


def placeholder(hint: Any) -> str:
    """Return the word that stands for a field's value in `--help`, such as `INT` or `TEXT|JSON`."""
    names = {bool: "true|false", int: "INT", float: "NUMBER", dict: "JSON", list: "JSON"}
    kinds = [get_origin(member) or member for member in _members(hint)]
    return "|".join(dict.fromkeys(names.get(kind, "TEXT") for kind in kinds if kind is not type(None)))
