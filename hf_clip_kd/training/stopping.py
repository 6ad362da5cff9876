"""Stop a run by a signal or after its hours: it saves, exits with code 0, and can be resumed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import TrainerCallback, TrainerState

from .checkpoints import Checkpoints
from .distributed import any_rank
from .pushing import BackgroundPush

logger = logging.getLogger(__name__)

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopOnSignal(TrainerCallback):
    """
    End all processes after the step in which any of them was told to stop, with a checkpoint.

    SIGTERM, SIGUSR1 and `args.max_hours` tell a run to stop. It saves a checkpoint and leaves the loop. Then
    `BaseTrainer` calls [`StopOnSignal.exit`], before the best model takes the place of the last. So the work of a
    recipe after the training waits for the run that reaches the end. `SystemExit` inside of the loop would keep the
    dataloader, and with it workers that no signal can end.

    Args:
        checkpoints ([`Checkpoints`]): It knows whether the checkpoint was written.
        pushing ([`BackgroundPush`]): It finishes its push before the process ends.
    """

    def __init__(self, checkpoints: Checkpoints, pushing: BackgroundPush):
        self.checkpoints, self.pushing = checkpoints, pushing
        self.reason: str | None = None
        self.agreed = False
        self.start = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as requests for one training, and restore the handlers that were there."""
        self.reason, self.agreed, self.start = None, False, time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            yield  # Python lets no other thread listen to signals
            return
        handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        block_signals_in_workers(True)
        try:
            yield
        finally:
            block_signals_in_workers(False)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.reason = signal.Signals(number).name

    def on_step_end(self, args, state, control, **kwargs):
        if args.max_hours is not None and time.monotonic() - self.start > 3600 * args.max_hours:
            self.reason = self.reason or f"max_hours={args.max_hours}"
        # The last step needs no stopping. Before it all processes ask each other, or some would train without the
        # others.
        if state.global_step < state.max_steps and any_rank(self.reason is not None, args.device):
            self.agreed = control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.agreed:
            control.should_log = control.should_evaluate = False
            # `save_strategy=best` has taken the request to save back: the evaluation was not the best.
            control.should_save = self.checkpoints.saved_step != state.global_step

    def exit(self, state: TrainerState) -> None:
        """
        End the process that was told to stop.

        Raises:
            SystemExit: The checkpoint of the last step is there; the code is 0.
            RuntimeError: It could not be written.
        """
        self.pushing.wait()
        why = self.reason or "another process was told to stop"
        if self.checkpoints.saved_step != state.global_step:
            raise RuntimeError(
                f"Stopped at step {state.global_step} ({why}) without a checkpoint of it, see above. A resumed run "
                "needs one to continue here. Make room. `--resume_from_checkpoint auto` resumes the last complete one."
            )
        logger.warning(
            "Stopped at step %d of %d (%s) with a checkpoint. %s",
            state.global_step,
            state.max_steps,
            why,
            "It holds the model alone (`save_only_model`), so that no run resumes from it."
            if self.checkpoints.args.save_only_model
            else "Run the same command with `--resume_from_checkpoint auto` to resume it.",
        )
        raise SystemExit(0)


_workers_block = False


def block_signals_in_workers(block: bool) -> None:
    """Decide whether processes forked from now on, such as dataloader workers, leave the signals to this process."""
    global _workers_block
    _workers_block = block


def _after_fork() -> None:
    # Clusters signal all processes of a job. The death of a worker would end the run before it has saved.
    if _workers_block:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
