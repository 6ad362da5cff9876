"""The number of the epoch, for the parts of a run that draw anew in each, and for the log."""

from transformers import Trainer, TrainerCallback


class EpochCallback(TrainerCallback):
    """
    Tell the collator and the sampler the epoch, where they have an attribute `epoch`.

    accelerate does not reach a sampler through all of its wrappers after a resume, and it knows no collator.

    An endless stream makes one epoch of all steps. The Trainer would count its share from where the run was resumed.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        for part in (self.trainer.data_collator, self.trainer.sampler):
            if hasattr(part, "epoch"):
                part.epoch = int(state.epoch)

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.stream.loader is not None:
            state.epoch = state.global_step / state.max_steps
