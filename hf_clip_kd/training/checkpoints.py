"""Checkpoints that are complete or not there, and the choice of the checkpoint that a run resumes."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from .agreement import check_agreement, shared_identity
from .arguments import save_arguments
from .checkpoint_files import (
    differences,
    has_optimizer,
    last_complete,
    mark_complete,
    read_run,
    remove_checkpoint,
    rotate,
    why_incomplete,
)
from .checkpoint_reading import check_state
from .distributed import gather_objects
from .flags import unreadable

logger = logging.getLogger(__name__)

RESUME_ALIKE = "Restore them, or train another run with `--allow_changed_resume true`."


class Checkpoints(TrainerCallback):
    """
    Order the files of a run's checkpoints.

    A checkpoint counts once all processes have written it. Its last file, `checkpoint.json`, lists its files with
    their checksums and describes its run. Only then are older checkpoints deleted (`save_total_limit`) and is it
    pushed. A checkpoint that cannot be written is a warning, or with `on_failed_save="stop"` the end of the run. The
    last complete one stays, and a metric whose checkpoint is lost is not the best.

    Args:
        trainer ([`BaseTrainer`]): The trainer whose checkpoints they are.

    Attributes:
        has_model (`bool`): The model of the checkpoint is there, and `Trainer._save_checkpoint` adds what is missing.
    """

    def __init__(self, trainer: Trainer):
        self.trainer, self.args = trainer, trainer.args
        self.saved_step: int | None = None  # step of the last complete checkpoint of this training
        self.identity: dict[str, Any] | None = None
        self.has_model = False
        self._best_before: tuple[float | None, int | None] = (None, None)

    def on_train_begin(self, args, state, control, **kwargs):
        # The Trainer restores random numbers in an epoch. A run killed after its last step may have none left.
        if state.global_step >= state.max_steps:
            self.trainer._load_rng_state(self.trainer.ema.resumed_from)

    def on_evaluate(self, args, state, control, **kwargs):
        self._best_before = state.best_metric, state.best_global_step  # the Trainer judges this evaluation later

    # ---- Saving ----

    def save(self, folder: Path, write: Callable[[], None]) -> None:
        """
        Save a checkpoint, delete older ones and push it; all processes together.

        Args:
            folder (`Path`): The folder `checkpoint-STEP`.
            write (`Callable`): Called without arguments on every process, to write all files but the model's.

        Raises:
            RuntimeError: It could not be written, and `on_failed_save` is `stop`.
        """
        state, args = self.trainer.state, self.args
        if self.saved_step == state.global_step:
            return  # the end of an epoch comes a second time, and writing anew would tear it
        if args.should_save:
            # The folder may hold files of an earlier run, which must not be mixed with these.
            remove_checkpoint(folder)
        self.trainer.accelerator.wait_for_everyone()
        best = state.best_model_checkpoint
        # Processes wait for each other within `write`. One that could not write its model would not come.
        failed = (
            self._attempt(self.trainer.save_model, str(folder), True)
            or self._attempt(self._write, write)
            or self._attempt(self._finish, folder)
        )
        if failed:
            state.best_model_checkpoint = best
            if state.best_global_step == state.global_step:
                state.best_metric, state.best_global_step = self._best_before
            self._tell_failed(folder, failed)
            return
        self.saved_step = state.global_step
        if self.trainer.pushing.wanted:
            self.trainer.callback_handler.on_push_begin(args, state, self.trainer.control)
            self.trainer.pushing.start(folder, state.global_step)
        if args.should_save:
            rotate(folder, args.save_total_limit, state.best_model_checkpoint)

    def _write(self, write: Callable[[], None]) -> None:
        # The Trainer would delete older checkpoints before this one is complete.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        self.has_model = True
        try:
            write()
        finally:
            self.args.save_total_limit, self.has_model = limit, False

    def _finish(self, folder: Path) -> None:
        if self.args.should_save:
            save_arguments(self.args, folder)
            mark_complete(folder, self.identity)

    def _attempt(self, write: Callable, *arguments) -> str | None:
        """Call `write` on all processes, and return why it failed on any of them."""
        error = None
        try:
            write(*arguments)
        except Exception as caught:
            # The others wait in `write` for the process that failed under these engines, and not below.
            if not is_disk_error(caught) or self.trainer.is_deepspeed_enabled or self.trainer.is_fsdp_enabled:
                raise
            error = f"process {self.args.process_index}: {type(caught).__name__}: {str(caught).splitlines()[0]}"
        return "; ".join(filter(None, gather_objects(error)))

    def _tell_failed(self, folder: Path, reason: str) -> None:
        kept = "there is no earlier one" if self.saved_step is None else f"checkpoint-{self.saved_step} is whole"
        with contextlib.suppress(OSError):  # the disk itself may have gone
            free = shutil.disk_usage(folder.parent).free
            reason += f"; {free / 1e6:,.1f} MB are free there"  # torch does not say why
        if self.args.should_save:
            remove_checkpoint(folder)  # its files take up the room that is missing
        if self.args.on_failed_save == "stop":
            raise RuntimeError(
                f"{folder} could not be saved ({reason}), and {kept}. With `on_failed_save=stop` every checkpoint "
                "must be written. Make room and run again with `--resume_from_checkpoint auto`."
            )
        if self.args.should_save:
            logger.warning("%s could not be saved (%s), and %s. The training goes on.", folder, reason, kept)

    # ---- Resuming ----

    def choose(self, wanted: str | bool | None) -> str | None:
        """
        Return the folder from which a training resumes, the same on all processes; `None` begins at the start.

        Args:
            wanted (`str` or `bool`, *optional*): As for `BaseTrainer.train`.

        Raises:
            ValueError: The checkpoint is torn, holds the model alone, or belongs to another run.
        """
        choice, self.saved_step = None, None
        self.identity = json.loads(json.dumps(self.trainer.run_identity(), default=str))
        check_agreement(shared_identity(self.trainer, self.identity))
        if self.args.process_index == 0:
            try:
                choice = self._choose(wanted)
            except ValueError as error:
                choice = error
        choice = gather_objects(choice)[0]
        if isinstance(choice, ValueError):
            raise choice
        return choice

    def _choose(self, wanted: str | bool | None) -> str | None:
        if not wanted:
            return None
        if wanted is True or wanted == "auto":
            folder = last_complete(Path(self.args.output_dir))
            if folder is None and wanted is True:
                raise ValueError(
                    f"There is no whole checkpoint in {self.args.output_dir!r}. It must hold a `checkpoint-N` to "
                    "resume from. Start without `resume_from_checkpoint`, or with `auto`, which then begins at the "
                    "start."
                )
            if folder is None:
                return None
        else:
            folder = Path(wanted)
            if (reason := why_incomplete(folder)) is not None:
                raise ValueError(
                    f"{wanted!r} is no whole checkpoint: {reason}. A run resumes only a whole one. Give another "
                    "`checkpoint-N`, or `--resume_from_checkpoint auto` for the last whole one."
                )
        if not has_optimizer(folder):
            raise ValueError(
                f"{str(folder)!r} holds the model alone, as with `save_only_model`. A run resumes only with the state "
                "of optimizer, schedule and random numbers. Start another run from the weights: "
                f"`--model_name_or_path {folder}`, without `resume_from_checkpoint`."
            )
        check_state(folder)
        self._refuse_if_changed(folder)
        logger.info("Resuming from %s.", folder)
        return str(folder)

    def _refuse_if_changed(self, folder: Path) -> None:
        then, now = _comparable(read_run(folder), self.identity)
        found = [f"{name} was {old}, is {new}" for name, old, new in differences(then, now)]
        dataset = self.trainer.train_dataset
        if isinstance(dataset, IterableDataset) and not hasattr(dataset, "loader"):
            found.append(f"a {type(dataset).__name__} does not know where it was (a `Stream` of it does)")
        if not found:
            return
        if then["engine"] != self.identity["engine"]:
            raise ValueError(
                f"{str(folder)!r} was saved under {then['engine']!r}, and this run uses {self.identity['engine']!r}. "
                "Another engine cannot read the state of the optimizer. Use the same engine, or start from the "
                "weights alone: `model_name_or_path`."
            )
        if unread := unreadable(then["arguments"], now["arguments"]):
            raise ValueError(
                f"{str(folder)!r} was saved with another setting: {'; '.join(unread)}. Its state cannot be read with "
                "the new value. Restore it, or start from the weights alone: `model_name_or_path`."
            )
        if not self.args.allow_changed_resume:
            raise ValueError(
                f"{str(folder)!r} is of another run: {'; '.join(found)}. A run resumes exactly only with the same "
                f"teacher, losses, data, settings and number of processes. {RESUME_ALIKE}"
            )
        logger.warning("Resuming from %s as another run: %s.", folder, "; ".join(found))


def _comparable(then: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two identities with the flags, and the geometry, that both know: another version may have others."""
    if "geometry" not in then:
        now = {name: value for name, value in now.items() if name != "geometry"}
    # Checkpoints of format version 1 have no flags.
    then, now = ({**run, "arguments": run.get("arguments") or {}} for run in (then, now))
    both = then["arguments"].keys() & now["arguments"].keys()
    return tuple(run | {"arguments": {name: run["arguments"][name] for name in sorted(both)}} for run in (then, now))


def is_disk_error(error: Exception) -> bool:
    """Return whether a file could not be written, in the words of Python, safetensors or torch."""
    in_torch = isinstance(error, RuntimeError) and re.search("inline_container|StreamWriter|iostream", str(error))
    return isinstance(error, OSError | SafetensorError) or bool(in_torch)
