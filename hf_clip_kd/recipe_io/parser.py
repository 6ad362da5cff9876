"""Arguments of the recipes: a flag wins over `--config FILE.yaml`, and the file over the default."""

import argparse
import dataclasses
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from .argument_types import NULL, FlagParser, allowed_words, element_type, optional, placeholder
from .foreign import ForeignFileError, read_yaml_text, root_node, yaml_faults
from .help import HelpFormatter, ShowHelp, declaring_class, is_of_transformers
from .results import write_whole
from .tokens import holds_token, without_tokens

_WORDS = {"allowed": "A recipe is a list of `name: value` lines.", "fix": "Correct it, see `--help-all`."}

logger = logging.getLogger(__name__)

_UNSET = object()


class RecipeParser:
    """Read dataclasses from flags and one YAML file.

    Each field of each dataclass is a flag and a YAML key of the same name. The flag wins over the file, and the file
    over the dataclass's default. Values of the file pass the flags' converters, as the text in the file.
    So `max_steps: 3.7` is an error, `save_strategy: no` the word "no", and `learning_rate: 1e-3` a number.
    `${...}` is nothing special. A dict or a list is a mapping or a list in YAML, and JSON on the command line.
    `null` gives None where None is allowed.

    Args:
        dataclass_types (`type` or `Sequence[type]`):
            The dataclasses to fill, with no field in common.
            Subclasses of [`~transformers.TrainingArguments`] are fine.
        default_config (`Path`):
            The YAML file to read without `--config`.
        description (`str`, *optional*):
            Text at the top of `--help`.
        first (`Sequence[str]`, defaults to `()`):
            Fields that `--help` shows first. The other fields follow, grouped by the class that declares them.
            Rare fields of transformers' TrainingArguments are shown by `--help-all` only.
    """

    def __init__(
        self,
        dataclass_types: type | Sequence[type],
        default_config: Path,
        description: str | None = None,
        first: Sequence[str] = (),
    ):
        self.dataclass_types = [dataclass_types] if isinstance(dataclass_types, type) else list(dataclass_types)
        self.default_config = Path(default_config)
        self._fields = {field.name: field for dtype in self.dataclass_types for field in dataclasses.fields(dtype)}
        self._hints = {name: hint for dtype in self.dataclass_types for name, hint in get_type_hints(dtype).items()}
        self._flags = FlagParser(
            self.dataclass_types,
            description=description,
            allow_abbrev=False,
            exit_on_error=False,
            add_help=False,
            formatter_class=HelpFormatter,
        )
        for action in self._flags._actions:
            action.required = False  # The file may hold it.
            if action.choices is None and action.nargs != 0:
                action.metavar = placeholder(self._hints[action.dest])
        groups = {"action": ShowHelp, "dataclass_types": self.dataclass_types, "first": first}
        self._flags.add_argument("-h", "--help", everything=False, help="Show the common flags and exit.", **groups)
        self._flags.add_argument("--help-all", everything=True, help="Show every flag and exit.", **groups)
        self._flags.add_argument(
            "--config", default=str(default_config), metavar="FILE.yaml", help="File with values for these flags."
        )
        self._given: set[str] = set()

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """Return one instance of each dataclass.

        Args:
            argv (`Sequence[str]`, *optional*):
                The flags. Without them, the flags of the process.

        Raises:
            `ValueError`: If a flag, key or value does not fit, or is missing. A value holds a token, or a file cannot
                be read.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        names = [name for name, field in self._fields.items() if field.init]
        # Unset values stay out of the instances, so that the dataclass makes a fresh default each time.
        namespace = argparse.Namespace(**dict.fromkeys(names, _UNSET))
        self._read(argv, namespace, origin="On the command line")
        config = namespace.config
        on_file = argparse.Namespace(**dict.fromkeys(names, _UNSET))
        self._read(self._flags_from_yaml(Path(config)), on_file, origin=f"In {config}")
        values = {name: getattr(on_file, name) for name in names} | {
            name: getattr(namespace, name) for name in names if getattr(namespace, name) is not _UNSET
        }
        values = {name: value for name, value in values.items() if value is not _UNSET}
        for name in names:
            field = self._fields[name]
            if name not in values and field.default is field.default_factory is dataclasses.MISSING:
                raise ValueError(
                    f"`{name}` has no value: it stands neither on the command line nor in {config}. "
                    f"It takes {allowed_words(self._hints[name])}. "
                    f"Pass `--{name} VALUE` or add `{name}: VALUE` to the file."
                )
        for name, value in values.items():
            if not _is_secret(name) and holds_token(repr(value)):
                raise ValueError(
                    f"An argument of this run holds a token of the Hub: `{name}`. Logs and recipe.yaml show all "
                    "arguments, so none may hold a token. Take it out, and set HF_TOKEN or run `hf auth login`."
                )
        self._given, self.config = set(values), config
        try:
            return tuple(
                dtype(**{f.name: values[f.name] for f in dataclasses.fields(dtype) if f.name in values})
                for dtype in self.dataclass_types
            )
        except (ValueError, OverflowError) as error:
            # Our own errors say what to do.
            fix = ". Correct it there, or on the command line." if _is_of_transformers(error) else ""
            raise ValueError(f"With {config}: {error}{fix}") from error

    def save(self, path: str | Path, *instances: Any) -> None:
        """Write the resolved arguments as a YAML file that `--config` reads back to the same instances.

        The file holds all fields of our own dataclasses. It holds a field of transformers if the last
        [`~RecipeParser.parse`] found it in a flag or in the file. It never holds a token.
        """
        recipe = {}
        for instance in instances:
            for field in dataclasses.fields(instance):
                own = not is_of_transformers(declaring_class(type(instance), field.name))
                if field.init and (own or field.name in self._given) and not _is_secret(field.name):
                    recipe[field.name] = _plain(getattr(instance, field.name))
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110)
        write_whole(Path(path), f"# Every argument of this run. Run it again: --config {path}\n{text}")

    def _read(self, argv: list[str], namespace: argparse.Namespace, origin: str) -> None:
        """Convert flags into `namespace`. Errors name `origin`."""
        try:
            _, unknown = self._flags.parse_known_args(argv, namespace)
        except argparse.ArgumentError as error:
            name = (error.argument_name or "").split("/")[0].lstrip("-")
            if name not in self._hints:
                raise ValueError(f"{origin}: {error}. Run with `--help-all` for all flags.") from error
            allowed = "" if "choose from" in error.message else f" It takes {allowed_words(self._hints[name])}."
            raise ValueError(
                f"{origin}, `{name}`: {error.message}.{allowed} "
                f"Correct it, or leave `{name}` out{self._default_of(name)}."
            ) from error
        if unknown:
            word = unknown[0].split("=")[0]
            if not word.startswith("-"):
                raise ValueError(
                    f"{origin}, {unknown[0]!r} belongs to no flag. Values follow `--flag`; quote those with spaces, "
                    "and write lists and mappings as one JSON argument: `--losses '{\"clip\": 1}'`."
                )
            raise ValueError(f"{origin}, {word!r} is no flag. {self._closest(word, prefix='--')}")

    def _flags_from_yaml(self, path: Path) -> list[str]:
        """Return the values of a YAML file as flags, each with its text in the file."""
        if not path.is_file():
            there = sorted(str(file) for file in self.default_config.parent.glob("*.yaml"))
            raise ForeignFileError(
                f"`--config {path}`: there is no such file. Recipes at hand: {', '.join(there) or 'none'}. "
                "Pass one of them, or the path of your own copy."
            )
        text = read_yaml_text(path, **_WORDS)
        with yaml_faults(path, **_WORDS):
            # The loader itself finds signs that YAML does not have.
            loader = _Loader(text)
            root = root_node(loader, path, **_WORDS)
        items = [] if root is None else root.value
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ForeignFileError(
                f"{path} holds no mapping. A recipe is a list of `name: value` lines. "
                "See `--help-all` for the names, and write for example `max_steps: 100`."
            )
        argv, lines = [], {}
        for key_node, node in items:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key not in self._fields or not self._fields[key].init:
                raise ForeignFileError(f"{path}, line {line}: {key!r} is no argument. {self._closest(key)}")
            if key in lines:
                raise ForeignFileError(
                    f"{path}: `{key}` stands on line {lines[key]} and again on line {line}. "
                    "A key may stand once. Delete one of the two lines."
                )
            lines[key] = line
            argv.append(f"--{key}={self._text(path, key, node, loader)}")
        return argv

    def _text(self, path: Path, key: str, node: yaml.Node, loader: yaml.Loader) -> str:
        hint = self._hints[key]
        if isinstance(node, yaml.ScalarNode):
            if not node.tag.endswith(":null"):
                return node.value
            if not optional(hint):
                raise ForeignFileError(
                    f"{path}, line {node.start_mark.line + 1}: `{key}` cannot be empty. "
                    f"It takes {allowed_words(hint)}. "
                    f"Give it a value, or delete the line{self._default_of(key)}."
                )
            return NULL
        if isinstance(node, yaml.SequenceNode) and element_type(hint) is str:
            if all(isinstance(child, yaml.ScalarNode) for child in node.value):
                return json.dumps([child.value for child in node.value])
        with yaml_faults(path, **_WORDS):
            return json.dumps(loader.construct_object(node, deep=True), default=str)

    def _closest(self, word: str, prefix: str = "") -> str:
        """Return parts two and three of an error about an unknown name."""
        flags = [flag[2:] for flag in self._flags._option_string_actions if flag.startswith("--")]
        names = flags if prefix else [name for name, field in self._fields.items() if field.init]
        matches = get_close_matches(word.lstrip("-").replace("-", "_"), names, n=1)
        if matches:
            return f"Did you mean `{prefix}{matches[0]}`? Run with `--help-all` for all names."
        return "Run with `--help-all` for all names, and delete or correct this one."

    def _default_of(self, name: str) -> str:
        default = self._fields[name].default
        return "" if default is dataclasses.MISSING or default is None else f" (then it is {_plain(default)!r})"


class _Loader(yaml.SafeLoader):
    """Load YAML 1.1, and read `1e-3` inside a mapping as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _is_secret(name: str) -> bool:
    return name == "token" or name.endswith("_token")


def _plain(value: Any) -> Any:
    """Convert `value` to YAML's own types."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def recipe_path(name: str, folder: Path) -> Path:
    """Return the YAML at a path, or else the one of this name in a folder."""
    return Path(name) if Path(name).is_file() else folder / name


def _is_of_transformers(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("transformers.")


def exit_with_one_line(main: Callable[[], Any]) -> None:
    """Run `main()`, and turn a `ValueError` into one line on stderr and exit code 2.

    Other exceptions keep their traceback. With logging at DEBUG, a `ValueError` shows its traceback too. None of them
    shows a token of the Hub.
    """
    try:
        main()
    except ValueError as error:
        logger.debug("Traceback of the error below", exc_info=not holds_token(traceback.format_exc()))
        sys.stderr.write(f"error: {without_tokens(' '.join(str(error).split()))}\n")
        raise SystemExit(2) from error
    except Exception:
        text = traceback.format_exc()
        if not holds_token(text):
            raise
        sys.stderr.write(without_tokens(text))
        raise SystemExit(1) from None
