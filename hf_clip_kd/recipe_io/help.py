"""Print the flags of a recipe in groups, from those that most people set to those of transformers' Trainer."""

import argparse
import dataclasses
import inspect
import re
import shutil
import sys
from collections.abc import Sequence

# Fields of transformers' TrainingArguments that `--help` shows. `--help-all` shows the others too.
COMMON = (
    "output_dir",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "bf16",
    "seed",
    "logging_steps",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "dataloader_num_workers",
    "report_to",
    "push_to_hub",
    "hub_model_id",
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show one spelling of each flag, its kind of value, and its default if it has one."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=min(shutil.get_terminal_size().columns, 119))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        flag = next(option for option in action.option_strings if option.startswith("--"))
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{flag} {value}".rstrip()

    def _get_help_string(self, action: argparse.Action) -> str:
        # `--no_NAME` takes no value. Its default is that of no field.
        return action.help if action.default is None or action.nargs == 0 else super()._get_help_string(action)


class ShowHelp(argparse.Action):
    """Print the flags and exit.

    Args:
        dataclass_types (`Sequence[type]`): The dataclasses behind the flags.
        first (`Sequence[str]`): Fields of the first group, in this order.
        everything (`bool`): Whether to show all flags of transformers too.
    """

    def __init__(self, *args, dataclass_types: Sequence[type], first: Sequence[str], everything: bool, **kwargs):
        super().__init__(*args, nargs=0, default=argparse.SUPPRESS, **kwargs)
        self.groups = flag_groups(dataclass_types, first)
        self.everything = everything

    def __call__(self, parser, namespace, values, option_string=None):
        sys.stdout.write(format_flags(parser, self.groups, self.everything))
        parser.exit()


def declaring_class(dtype: type, name: str) -> type:
    """Return the class that declares the field `name` of `dtype`, the most derived one if several do."""
    return next(base for base in dtype.__mro__ if name in inspect.get_annotations(base))


def is_of_transformers(dtype: type) -> bool:
    """Return whether transformers defines this class."""
    return dtype.__module__.startswith("transformers.")


def flag_groups(dataclass_types: Sequence[type], first: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of all fields by the title of their group, each name once."""
    owners = {
        field.name: declaring_class(dtype, field.name)
        for dtype in dataclass_types
        for field in dataclasses.fields(dtype)
        if field.init
    }
    theirs = [name for name, owner in owners.items() if is_of_transformers(owner)]
    groups = {"Most often set": list(first)}
    # A class comes before its bases, which are more general.
    ours = (base for dtype in dataclass_types for base in dtype.__mro__ if not is_of_transformers(base))
    for owner in (base for base in ours if base in owners.values()):
        groups[_title(owner)] = [name for name in owners if owners[name] is owner and name not in first]
    groups["Trainer"] = [name for name in COMMON if name in theirs and name not in first]
    groups["Trainer, the rest"] = [name for name in theirs if name not in COMMON and name not in first]
    return {title: names for title, names in groups.items() if names}


def format_flags(parser: argparse.ArgumentParser, groups: dict[str, list[str]], everything: bool) -> str:
    """Return the help of a parser, without the Trainer's less common flags unless `everything` is true."""
    formatter = parser._get_formatter()
    formatter.add_usage("%(prog)s [--config FILE.yaml] [--FLAG VALUE ...]", [], [])
    formatter.add_text(parser.description)
    fields = {name for names in groups.values() for name in names}
    shown = {"Options": [action for action in parser._actions if action.dest not in fields]}
    for title, names in groups.items():
        shown[title] = [
            action
            for name in names
            for action in parser._actions
            # `--no_NAME` is a second flag of the same field.
            if action.dest == name and (everything or f"--{name}" in action.option_strings)
        ]
    hidden = [] if everything else shown.pop("Trainer, the rest", [])
    for title, actions in shown.items():
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()
    formatter.add_text("A flag is also a key of the YAML file and wins over it. `--max-steps` is `--max_steps`.")
    if hidden:
        formatter.add_text(f"`--help-all` shows {len(hidden)} more flags of transformers' Trainer.")
    return formatter.format_help()


def _title(dtype: type) -> str:
    """Return the words of a class name: `RandomCropArguments` is "Random crop"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", dtype.__name__.removesuffix("Arguments"))
    return " ".join([words[0], *(word if word.isupper() else word.lower() for word in words[1:])])
