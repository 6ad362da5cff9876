"""LLaVA's first stage in the run of the second: its arguments are those of the run, but for a few."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..recipe_io.argument_types import NULL
from ..recipe_io.parser import RecipeParser
from .arguments import TrainVLMArguments, check
from .training_args import LlavaTrainingArguments

# Arguments of the second stage that the first does not have.
_NONE = ("lora", "quantization", "projector_learning_rate", "evaluation", "score_at_steps", "beside", "first_stage")
_WITHOUT = {"stage": "pretrain", "push_to_hub": False} | dict.fromkeys(_NONE)
# The folder of the first stage has these in it.
_BUILT = (
    "vision_tower",
    "language_model",
    "language_model_recipe",
    "image_size",
    "image_tokens",
    "token_reduction",
    "tiles",
)
# Both stages have these in common.
_SHARED = (*_BUILT, "model_name_or_path", "output_dir")


def read_first_stage(
    parser: RecipeParser, argv: Sequence[str], values: dict[str, Any]
) -> tuple[TrainVLMArguments, LlavaTrainingArguments]:
    """
    Return the arguments of the first stage.

    Args:
        parser ([`RecipeParser`]): Parser of the recipe.
        argv (`Sequence[str]`): Flags of the run.
        values (`dict[str, Any]`): Arguments that differ from the run's, as `first_stage` has them.

    Raises:
        ValueError: A name or a value is wrong, or belongs to both stages.
    """
    for name in (*_SHARED, *_NONE, "stage"):
        if name in values:
            raise ValueError(
                f"`first_stage` has `{name}: {values[name]!r}`, which is not its own. It has the arguments in which "
                "data and training of the first stage differ. Delete that line."
            )
    flags = [f"--{name}={_text(value)}" for name, value in (_WITHOUT | values).items()]
    try:
        script, training = parser.parse([*argv, *flags])
        check(script, training)
    except ValueError as error:
        raise ValueError(f"`first_stage`: {error}") from error
    return script, training


def first_folder(output_dir: Path, name: str) -> Path:
    """Return the folder of a tower's first stage: `pretrain/NAME` next to the folder of the run."""
    return output_dir.parent / "pretrain" / name


def second_of(script: TrainVLMArguments, first: Path) -> TrainVLMArguments:
    """Return the arguments of a second stage that starts from the folder of the first."""
    from_parts = dict.fromkeys((*_BUILT, "chat_template"))
    # The folder has tiles, for which `square` is the only mode.
    mode = script.image_mode if script.tiles is None else None
    return replace(script, model_name_or_path=str(first), first_stage=None, beside=None, image_mode=mode, **from_parts)


def _text(value: Any) -> str:
    """Return a value as a flag has it."""
    if value is None:
        return NULL
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["first_folder", "read_first_stage", "second_of"]
