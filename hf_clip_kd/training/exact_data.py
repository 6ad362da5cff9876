"""Data that goes on exactly where it was: the epoch for the crops, and the position in a stream, through kill and resume."""

import json
import os


class ExactData:
    """
    The part of a [`~transformers.Trainer`] that hands out the data, mixed in before it.

    A `data_collator` with an `epoch` is told it. A `train_dataset` with a method `loader`, such as [`~data.Stream`], makes
    its own dataloader, with `state_dict` and `load_state_dict`; each process leaves its state in the checkpoint.
    """

    _stream_loader = None

    def get_train_dataloader(self):
        """The Trainer's, or that of a data set which deals itself out to processes and workers."""
        if not hasattr(self.train_dataset, "loader"):
            return super().get_train_dataloader()
        # Not prepared by Accelerate, which would deal the rows out once more.
        self._stream_loader = self.train_dataset.loader(
            self._train_batch_size,
            self.data_collator,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return self._stream_loader

    def _run_epoch(self, *args, epoch: int, resume_from_checkpoint: str | None = None, **kwargs):
        # Set here the epoch is right after a resume, too, and for any kind of dataloader.
        if hasattr(self.data_collator, "epoch"):
            self.data_collator.epoch = epoch
        if self._stream_loader is not None and resume_from_checkpoint is not None:
            with open(self._stream_state(resume_from_checkpoint)) as file:
                self._stream_loader.load_state_dict(json.load(file))
            kwargs["steps_trained_in_current_epoch"] = 0  # nothing is left to skip
        return super()._run_epoch(*args, epoch=epoch, resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # called by every process, in every checkpoint that can be resumed
        if self._stream_loader is not None:
            with open(self._stream_state(output_dir), "w") as file:
                json.dump(self._stream_loader.state_dict(), file)

    def _stream_state(self, folder: str) -> str:
        return os.path.join(folder, f"stream_state_{self.args.process_index}.json")
