"""The progress bar of a resumed run."""

from transformers import ProgressCallback, Trainer, TrainerCallback


class ProgressFromResume(TrainerCallback):
    """
    Let the Trainer's progress bar begin at the step that a run resumes from.

    The bar would count the steps of earlier runs among those of the first seconds. Its speed and its time left would
    be wrong for long.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressCallback) and (bar := callback.training_bar) is not None:
                callback.current_step = bar.initial = bar.n = bar.last_print_n = state.global_step
                bar.refresh()
