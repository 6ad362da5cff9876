"""Readers of files that somebody else wrote, in text, JSON or YAML: every fault is one kind of error."""

from .fault import ForeignFileError, kind_of
from .fields import FieldError, convert, fields
from .json_text import parse_json, read_json, read_json_lines, read_json_samples
from .text import decode, read_text
from .yaml_text import read_yaml, read_yaml_text, root_node, yaml_faults

__all__ = [
    "FieldError",
    "ForeignFileError",
    "convert",
    "decode",
    "fields",
    "kind_of",
    "parse_json",
    "read_json",
    "read_json_lines",
    "read_json_samples",
    "read_text",
    "read_yaml",
    "read_yaml_text",
    "root_node",
    "yaml_faults",
]
