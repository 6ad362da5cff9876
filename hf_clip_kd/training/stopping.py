"""A run that is told to stop, by a signal or by its hours, saves and exits with code 0; the next one goes on from there."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from transformers import TrainerCallback

from .checkpoints import KeepsCheckpoints
from .distributed import any_rank

logger = logging.getLogger(__name__)

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopRequest(TrainerCallback):
    """
    Ends the training after the step in which any process was told to stop, with a checkpoint, on all processes alike.

    Args:
        max_hours (`float`, *optional*): From the beginning of the training.
    """

    def __init__(self, max_hours: float | None):
        self.max_hours = max_hours
        self.forget()

    def forget(self) -> None:
        """Begin anew: nobody has asked, and no time has passed."""
        self.reason: str | None = None
        self.agreed = False
        self.deadline = None if self.max_hours is None else time.monotonic() + 3600 * self.max_hours

    def listen(self) -> dict[int, object]:
        """Take signals as requests; returns the handlers there were, for `signal.signal`."""
        return {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame) -> None:
        self.reason = signal.Signals(number).name

    def on_step_end(self, args, state, control, **kwargs):
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = self.reason or f"max_hours={self.max_hours}"
        # The last step needs no stopping. Before it all processes ask each other, or some would go on alone.
        if state.global_step < state.max_steps and any_rank(self.reason is not None, args.device):
            self.agreed = control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.agreed:  # the epoch has not ended
            control.should_log = control.should_evaluate = control.should_save = False


class StopsWhenTold(KeepsCheckpoints):
    """
    Mixed into a [`~transformers.Trainer`]: SIGTERM, SIGUSR1 and `args.max_hours` end the training as they end a process, by
    `SystemExit`, but after a checkpoint was saved and with code 0. What a recipe does after training waits for the run that
    goes on and reaches the end.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stop_request = StopRequest(self.args.max_hours)
        self.add_callback(self.stop_request)

    def train(self, *args, **kwargs):
        self.stop_request.forget()
        if threading.current_thread() is not threading.main_thread():
            return super().train(*args, **kwargs)  # Python lets no other thread listen to signals
        handlers = self.stop_request.listen()
        block_signals_in_workers(True)
        try:
            return super().train(*args, **kwargs)
        finally:
            block_signals_in_workers(False)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _finalize_training(self, *args):
        if not self.stop_request.agreed:
            return super()._finalize_training(*args)
        # Without the best model, and without the deletion of the checkpoint from which to go on.
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        self._finish_current_push()
        why = self.stop_request.reason or "another process was told to stop"
        if self.saved_step != self.state.global_step:
            raise RuntimeError(
                f"Stopped at step {self.state.global_step} ({why}) without a checkpoint of it, see above. One is needed to go "
                "on from here. Make room; `--resume_from_checkpoint auto` goes on from the last whole one."
            )
        logger.warning(
            "Stopped at step %d of %d (%s) with a checkpoint. Run the same command with `--resume_from_checkpoint auto` to go "
            "on.",
            self.state.global_step,
            self.state.max_steps,
            why,
        )
        raise SystemExit(0)


_deaf = False


def block_signals_in_workers(deaf: bool) -> None:
    """Whether processes forked from now on, such as dataloader workers, leave the signals to this one."""
    global _deaf
    _deaf = deaf


def _after_fork() -> None:
    # Clusters signal all processes of a job. A worker that died of it would take the run along before it has saved.
    if _deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
