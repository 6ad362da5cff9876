"""What a trainer pushes and when, in the place of transformers' own way, which hides failures and pushes pickles."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from transformers.trainer_utils import HubStrategy

from ..hub.run import check_run, push_run

logger = logging.getLogger(__name__)


class PushesRuns:
    """
    Mixed into a [`~transformers.Trainer`]: with `args.push_to_hub`, rights are checked when the trainer is made.

    With `hub_strategy="every_save"` each checkpoint's model is pushed, with card and recipe, in one commit and in the
    background. A push reads a checkpoint's own files, which nobody writes again, and the next save waits for it: so none is
    left out, none reads half a file, and none loses its files to `save_total_limit`. One that fails is a warning, since the
    training is worth more; it names the command that makes up for it. [`PushesRuns.push_to_hub`] raises.
    """

    _pushing: Future | None = None

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        if self.is_world_process_zero():
            check_run(self.args, self.args.output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves, and does not push: scores and card are not there yet."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(self, commit_message: str = "End of training") -> str | None:
        """
        Saves the model and pushes `args.output_dir`: model, processor, card, and what else of the run is there.

        Where to is told by `args.hub_model_id`, `hub_private_repo`, `hub_revision` and `hub_token`; `args.push_to_hub` need not
        be set.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): Title of the commit.

        Returns:
            `str`: Where it is to be seen; `None` on all but the main process.

        Raises:
            PushError: With the command that finishes it.
        """
        self.save_model()
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        return push_run(self.args, self.args.output_dir, commit_message)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        recipe = Path(self.args.output_dir, "recipe.yaml")
        if recipe.is_file():
            shutil.copy(recipe, checkpoint_folder)
        # A thread for each push ends with it.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        message = f"Training in progress, step {self.state.global_step}"
        self._pushing = thread.submit(push_run, self.args, checkpoint_folder, message)
        thread.shutdown(wait=False)

    def _finish_current_push(self) -> None:
        """Wait for the last push of a checkpoint, and say so if it failed."""
        pushing, self._pushing = self._pushing, None
        if pushing is not None and (error := pushing.exception()) is not None:
            logger.warning("A checkpoint is not on the Hub, the training goes on. %s", error)
