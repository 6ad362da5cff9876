"""The Hub for recipes and trainers: the same arguments everywhere, and a run's folder with its card in one push."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy

from ..recipe_io.tokens import holds_token
from .cards import write_card
from .push import check_push, push_folder, repo_type_of


@dataclass(kw_only=True)
class HubArguments:
    # Names are those of transformers' TrainingArguments; every field is documented once, in `help`.
    push_to_hub: bool = field(default=False, metadata={"help": "Push what the run leaves behind to the Hub."})
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Target `namespace/name`. Default is one's own namespace and the folder's name."},
    )
    hub_private_repo: bool | None = field(
        default=None, metadata={"help": "Make a new repository private. Default is the namespace's setting."}
    )
    hub_revision: str | None = field(default=None, metadata={"help": "The branch, created if missing."})


def check_run(args: Any, folder: str | Path, script: Any = None, repo_type: str = "model") -> None:
    """
    Check before training that the result can be pushed, and complete `args.hub_model_id`.

    Args:
        args ([`HubArguments`] or [`~transformers.TrainingArguments`]): Nothing is done without `push_to_hub`.
        folder (`str` or `Path`): The folder to push. It names the repository if `hub_model_id` does not.
        script (*optional*): The recipe's other arguments, which its `recipe.yaml` will show.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"` or `"dataset"`.

    Raises:
        ValueError: See [`check_push`]. Also raised for a `hub_strategy` that pushes optimizer states, and for a token
            among the arguments that will be shown.
    """
    if not args.push_to_hub:
        return
    strategy = getattr(args, "hub_strategy", HubStrategy.END)
    if strategy not in (HubStrategy.END, HubStrategy.EVERY_SAVE):
        raise ValueError(
            f"`hub_strategy={HubStrategy(strategy).value}` would push the optimizer's state, in pickles. It may be "
            "`every_save` (the model of each checkpoint) or `end`. Pass `--hub_strategy every_save`."
        )
    # The repr of transformers' arguments leaves their own token out.
    if holds_token(repr((args, script))):
        raise ValueError(
            "An argument of this run holds a token, and the recipe.yaml that is pushed shows all arguments. They may "
            "hold none. Take it out, and give it by HF_TOKEN or `hf auth login`."
        )
    args.hub_model_id = check_push(_repo_id(args, folder), repo_type=repo_type, **_options(args))


def push_run(args: Any, folder: str | Path, message: str = "End of training") -> str:
    """
    Write the card of a folder and push both.

    Args:
        args, folder: See [`check_run`].
        message (`str`, *optional*): Title of the commit.

    Returns:
        `str`: Its address.

    Raises:
        PushError: The message has the command that finishes the push.
    """
    repo_id = _repo_id(args, folder)
    write_card(folder, repo_id=repo_id)
    return push_folder(folder, repo_id, repo_type=repo_type_of(folder), message=message, **_options(args))


def _repo_id(args: Any, folder: str | Path) -> str:
    return args.hub_model_id or Path(folder).resolve().name


def _options(args: Any) -> dict[str, Any]:
    return {
        "private": args.hub_private_repo,
        "revision": args.hub_revision,
        "token": getattr(args, "hub_token", None),
    }
