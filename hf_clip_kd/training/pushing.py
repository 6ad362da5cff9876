"""Pushes of checkpoints to the Hub, one at a time, while the training goes on."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..hub.run import push_run

logger = logging.getLogger(__name__)


class BackgroundPush:
    """
    Push each checkpoint's model with card and recipe, in one commit and in the background.

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
        recipe = Path(self.args.output_dir, "recipe.yaml")
        if recipe.is_file():
            shutil.copy(recipe, folder)
        # Each push has a thread of its own, which ends with it.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self.current = thread.submit(push_run, self.args, str(folder), f"Training in progress, step {step}")
        thread.shutdown(wait=False)

    def wait(self) -> None:
        """Wait for the current push, and warn if it failed."""
        current, self.current = self.current, None
        if current is not None and (error := current.exception()) is not None:
            logger.warning("A checkpoint is not on the Hub, the training goes on. %s", error)
