"""Checkpoints that are whole or not there, and runs that go on from the last whole one, or say why they cannot."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch.utils.data import IterableDataset
from transformers.trainer_utils import rotate_checkpoints

from .checkpoint_files import differences, last_complete, mark_complete, read_run, why_incomplete
from .distributed import gather_objects
from .identity import data_identity

logger = logging.getLogger(__name__)

RESUME_ALIKE = "Restore them, or go on with another run by `--allow_changed_resume true`."


class KeepsCheckpoints:
    """
    Mixed into a [`~transformers.Trainer`], with [`CheckpointArguments`] among its arguments.

    A checkpoint counts once all processes have written it and its last file, `checkpoint.json`, says what belongs to it and
    to which run. Only then are older ones deleted (`save_total_limit`) and is it pushed. One that cannot be written is a
    warning, or with `on_failed_save="stop"` the end of the run; the last whole one stays.
    """

    saved_step: int | None = None  # of the last whole checkpoint of this process
    _identity: dict[str, Any] | None = None
    _saving = False

    # ---- Saving ----

    def _save_checkpoint(self, model, trial) -> None:
        if self.saved_step == self.state.global_step:
            return  # at the end of an epoch a second time; to write it anew would tear it
        output_dir = self._get_output_dir(trial)
        folder = Path(output_dir, f"checkpoint-{self.state.global_step}")
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, whose files are not to be mixed with these
        self.accelerator.wait_for_everyone()
        best = self.state.best_model_checkpoint
        failed = self._attempt(self._write, folder, model, trial) or self._attempt(self._finish, folder)
        if failed:
            self.state.best_model_checkpoint = best
            self._tell_failed(folder, failed)
            return
        self.saved_step = self.state.global_step
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(folder))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir, self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True
            )

    def _write(self, folder: Path, model, trial) -> None:
        # The Trainer would delete older checkpoints before this one is whole.
        limit, self.args.save_total_limit, self._saving = self.args.save_total_limit, None, True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit, self._saving = limit, False

    def _finish(self, folder: Path) -> None:
        if self.args.should_save:
            self._save_arguments(folder)
            mark_complete(folder, self._identity)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._saving:  # not yet whole
            super()._push_from_checkpoint(checkpoint_folder)

    def _attempt(self, write, *arguments) -> str | None:
        """Call `write` on all processes; why it failed on one of them, if it did."""
        error = None
        try:
            write(*arguments)
        except Exception as caught:
            # Under these engines the others wait in `write` for the one that failed, and not below.
            if not is_disk_error(caught) or self.is_deepspeed_enabled or self.is_fsdp_enabled:
                raise
            error = f"process {self.args.process_index}: {type(caught).__name__}: {str(caught).splitlines()[0]}"
        return "; ".join(filter(None, gather_objects(error)))

    def _tell_failed(self, folder: Path, reason: str) -> None:
        kept = "there is no earlier one" if self.saved_step is None else f"checkpoint-{self.saved_step} is whole"
        reason += f"; {shutil.disk_usage(folder.parent).free / 1e6:,.1f} MB are free there"  # torch does not say why
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # what there is of it takes up the room that is missing
        if self.args.on_failed_save == "stop":
            raise RuntimeError(
                f"{folder} could not be saved ({reason}); {kept}. With `on_failed_save=stop` every checkpoint must be "
                "written. Make room and run again with `--resume_from_checkpoint auto`."
            )
        if self.args.should_save:
            logger.warning("%s could not be saved (%s); %s. The training goes on.", folder, reason, kept)

    def _save_arguments(self, folder: str | os.PathLike) -> None:
        # JSON instead of the Trainer's pickle: readable, safe to load, and without the Hub token.
        with open(os.path.join(folder, "training_args.json"), "w") as file:
            json.dump(self.args.to_dict(), file, indent=2, default=str)

    # ---- Resuming ----

    def _run_epoch(self, *args, resume_from_checkpoint: str | None = None, **kwargs) -> None:
        if self.state.global_step >= self.state.max_steps:
            # Of a run that was killed after its last step, of which the Trainer would make one more.
            self._load_rng_state(resume_from_checkpoint)
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def run_identity(self) -> dict[str, Any]:
        """What must be the same for a resumed run to go on exactly, in JSON's types; trainers add to it."""
        args = self.args
        engine = "deepspeed" if self.is_deepspeed_enabled else "fsdp" if self.is_fsdp_enabled else "replicas"
        return {
            "engine": engine,
            "processes": args.world_size,
            "data": {
                **data_identity(self.train_dataset),
                "batch_size": args.train_batch_size,
                "gradient_accumulation_steps": args.gradient_accumulation_steps,
                "order": {"seed": args.seed, "data_seed": args.data_seed},
            },
        }

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """
        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint's folder; `"auto"` for the last whole one in `args.output_dir`, or none if there is none; `True`
                likewise, but there must be one.
            kwargs: As for [`~transformers.Trainer`].

        Raises:
            ValueError: The checkpoint is torn, or of a run with another teacher, losses, data or number of processes.
        """
        choice = None
        if self.args.should_save:
            self._identity = json.loads(json.dumps(self.run_identity(), default=str))
        if self.args.process_index == 0:
            try:
                choice = self._choose(resume_from_checkpoint)
            except ValueError as error:
                choice = error
        choice = gather_objects(choice)[0]
        if isinstance(choice, ValueError):
            raise choice
        return super().train(choice, *args, **kwargs)

    def _choose(self, wanted: str | bool | None) -> str | None:
        if not wanted:
            return None
        if wanted is True or wanted == "auto":
            folder = last_complete(Path(self.args.output_dir))
            if folder is None and wanted is True:
                raise ValueError(
                    f"There is no whole checkpoint in {self.args.output_dir!r}. It must hold a `checkpoint-N` to resume from. "
                    "Start without `resume_from_checkpoint`, or with `auto`, which then begins at the start."
                )
            if folder is None:
                return None
        else:
            folder = Path(wanted)
            if (reason := why_incomplete(folder)) is not None:
                raise ValueError(
                    f"{wanted!r} is no whole checkpoint: {reason}. A run can only go on from a whole one. Give another "
                    "`checkpoint-N`, or `--resume_from_checkpoint auto` for the last whole one."
                )
        self._refuse_if_changed(folder)
        logger.info("Going on from %s.", folder)
        return str(folder)

    def _refuse_if_changed(self, folder: Path) -> None:
        then = read_run(folder)
        found = differences(then, self._identity)
        if isinstance(self.train_dataset, IterableDataset) and not hasattr(self.train_dataset, "loader"):
            found.append(f"a {type(self.train_dataset).__name__} does not know where it was (a `Stream` of it does)")
        if not found:
            return
        if then["engine"] != self._identity["engine"]:
            raise ValueError(
                f"{str(folder)!r} was saved under {then['engine']!r}, and this run uses {self._identity['engine']!r}: the "
                "state of the optimizer cannot be taken over. Use the same engine, or start from the weights alone: "
                "`model_name_or_path`."
            )
        if not self.args.allow_changed_resume:
            raise ValueError(
                f"{str(folder)!r} is of another run: {'; '.join(found)}. A run goes on exactly only where teacher, losses, data "
                f"and the number of processes are the same. {RESUME_ALIKE}"
            )
        logger.warning("Going on from %s as another run: %s.", folder, "; ".join(found))


def is_disk_error(error: Exception) -> bool:
    """Whether a file could not be written, as Python, safetensors or torch say so."""
    in_torch = isinstance(error, RuntimeError) and re.search("inline_container|StreamWriter|iostream", str(error))
    return isinstance(error, OSError | SafetensorError) or bool(in_torch)
