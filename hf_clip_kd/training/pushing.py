"""Pushes of checkpoints to the Hub, one at a time, while the training goes on."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..hub.cards import write_card
from ..hub.cards.folder import FACTS_NAME
from ..hub.push import PushError
from ..hub.run import push_run

logger = logging.getLogger(__name__)


class BackgroundPush:
    """
    Push each checkpoint's model with card and recipe, in one commit and in the background. Push the run in the end.

    A push reads a checkpoint's own files, which nobody writes again, and the next save waits for it. So no checkpoint
    is left out, and no push reads half a file. `save_total_limit` deletes no file that a push still needs. A failed
    push is a warning, since the training is worth more. The warning names the command that repeats it.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments of the run. Its fields `hub_*` name the repository.
    """

    def __init__(self, args: TrainingArguments):
        self.args = args
        self.current: Future | None = None

    @property
    def wanted(self) -> bool:
        """True on the process that pushes checkpoints."""
        return self.args.push_to_hub and self.args.process_index == 0 and self.args.hub_strategy != HubStrategy.END

    def start(self, folder: Path, step: int) -> None:
        """Wait for the push before, and push the complete checkpoint of `step`."""
        self.wait()
        self.current = _in_thread(_push_checkpoint, self.args, folder, f"Training in progress, step {step}")

    def push_end(
        self,
        message: str,
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> str | Future:
        """
        Push the folder of the run, with its card.

        Args:
            message (`str`): Title of the commit.
            blocking (`bool`, *optional*): Wait for the push. The process does not end before it in any case.
            token, revision, private (*optional*): They stand in for `hub_token`, `hub_revision` and
                `hub_private_repo` of the run's arguments.
            card: As for [`write_run_card`].

        Returns:
            `str`: The address of the pushed revision, or its `Future` if `blocking` is false.

        Raises:
            PushError: The push failed. A `Future` raises it when it is asked.
        """
        self.wait()
        args = copy.copy(self.args)
        for name, value in (("hub_token", token), ("hub_revision", revision), ("hub_private_repo", private)):
            if value is not None:
                setattr(args, name, value)
        if card:  # its facts stay in the folder
            write_run_card(args.output_dir, **card)
        if blocking:
            return push_run(args, args.output_dir, message)
        return _in_thread(_push_end, args, args.output_dir, message)

    def wait(self) -> None:
        """Wait for the current push, and warn if it failed."""
        current, self.current = self.current, None
        if current is not None and (error := current.exception()) is not None:
            logger.warning("A checkpoint is not on the Hub, the training goes on. %s", error)


def _in_thread(push: Callable, *args: Any) -> Future:
    # Each push has a thread of its own, which ends with it.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
    future = thread.submit(push, *args)
    thread.shutdown(wait=False)
    return future


def _push_checkpoint(args: TrainingArguments, folder: Path, message: str) -> str:
    for name in ("recipe.yaml", FACTS_NAME):
        if (path := Path(args.output_dir, name)).is_file():
            shutil.copy(path, folder)
    return push_run(args, str(folder), message)


def _push_end(args: TrainingArguments, folder: str, message: str) -> str:
    try:
        return push_run(args, folder, message)
    except PushError as error:  # perhaps nobody asks the `Future`
        logger.error("The run is not on the Hub. %s", error)
        raise


def write_run_card(
    folder: str,
    *,
    model_name: str | None = None,
    license: str | None = None,
    finetuned_from: str | None = None,
    dataset_tags: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
    **known: Any,
) -> None:
    """
    Write a card with the arguments of the stock Trainer's `create_model_card`. A folder without a model gets none.

    Args:
        folder (`str`): The folder of a run.
        model_name, license (`str`, *optional*): The title, and an identifier of the Hub.
        finetuned_from (`str`, *optional*): The model that the run started from.
        dataset_tags, dataset (`str` or `list[str]`, *optional*): Hub ids of the data, or else its names.
        known: `language`, `tags`, `tasks` and `dataset_args` have no effect, as the card knows them from the files.
    """
    data = dataset_tags or dataset or ()
    try:
        write_card(
            folder,
            name=model_name,
            licence=license,
            bases=[finetuned_from] if finetuned_from else (),
            datasets=[data] if isinstance(data, str) else data,
        )
    except ValueError as error:  # it would come at the end of a training, which is worth more
        logger.warning("There is no card. %s", error)
