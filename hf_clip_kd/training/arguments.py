"""Arguments that every training run of this package has."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from transformers import TrainingArguments

from ..recipe_io.results import write_whole
from .distributed import set_timeout
from .flags import check_flags
from .launch import build_models_whole, check_launch, check_precision


# repr=False keeps TrainingArguments' repr, which hides the Hub token.
@dataclass(kw_only=True, repr=False)
class RunArguments:
    # `help` documents every field once. This class stands before TrainingArguments among the bases. A trainer's own
    # class names its `trainer` for the table of flags.
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Resume from a checkpoint: its folder, or `auto` for the last complete one in `output_dir`. "
            "`auto` begins at the start if there is none. The flag without a value means `auto`.",
            "nargs": "?",
            "const": "auto",
        },
    )
    allow_changed_resume: bool = field(
        default=False,
        metadata={
            "help": "Resume although teacher, losses, data, settings or the number of processes differ from those of "
            "the checkpoint. The run is then another run, with the new values."
        },
    )
    on_failed_save: str = field(
        default="continue",
        metadata={
            "help": "Reaction to a checkpoint that cannot be written, for example on a full disk. `continue` tries "
            "again at the next one, `stop` ends the run. The last complete checkpoint stays either way.",
            "choices": ["continue", "stop"],
        },
    )
    max_hours: float | None = field(
        default=None,
        metadata={
            "help": "Hours of training after which the run saves a checkpoint and exits with code 0, as at SIGTERM or "
            "SIGUSR1. `resume_from_checkpoint` resumes it. Leave time for one step and the saving."
        },
    )
    max_skipped_steps: int = field(
        default=0,
        metadata={
            "help": "Number of steps with a loss or gradient that is not finite which are skipped. The next one stops "
            "the run and leaves its batch in `output_dir/non_finite`. Gradients too large for fp16's loss scale do "
            "not count."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Must stay False: a non-finite loss skips its step or stops the run instead of being hidden."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Keep an exponential moving average of all trained weights, with 0.9999 for long runs. Early "
            "steps use at most `(1 + step) / (10 + step)`, so that the first weights are soon forgotten. Checkpoints "
            "hold it as `ema.safetensors`."
        },
    )
    ema_evaluate: bool = field(
        default=True,
        metadata={
            "help": "Evaluate the average and leave it as the trained model. False does both with the last weights "
            "and leaves the average beside them as `ema.safetensors`."
        },
    )

    def __post_init__(self):
        chosen = self.accelerator_config is not None
        super().__post_init__()
        wrong = {name: value for name, value in vars(self).items() if isinstance(value, float) and value != value}
        if wrong:
            raise ValueError(
                f"{', '.join(f'`{name}=nan`' for name in wrong)} is no number. It must be one. Leave it out for the "
                "default."
            )
        if not chosen:
            # Batches come from pinned memory, so the host need not wait for their copies.
            self.accelerator_config.non_blocking = self.dataloader_pin_memory
        check_flags(self)
        check_launch(self)
        check_precision(self)
        if self.device.type == "cpu":
            set_timeout(self.ddp_timeout)
        build_models_whole()
        if self.on_failed_save not in ("continue", "stop"):
            raise ValueError(
                f"`on_failed_save={self.on_failed_save!r}` is unknown. Allowed are `continue` and `stop`. Leave it "
                "out to continue."
            )
        if self.max_hours is not None and not self.max_hours > 0:
            raise ValueError(
                f"`max_hours={self.max_hours}` leaves no time to train. It must be above 0. Pass for example "
                "`--max_hours 23.5`, or leave it out."
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"`ema_decay={self.ema_decay}` is no share of the old average. It must be at least 0 and below 1. "
                "Pass `--ema_decay 0.9999`, or less for a short run."
            )


def save_arguments(args: TrainingArguments, folder: str | os.PathLike) -> None:
    """Write the arguments into a folder, as JSON: readable, safe to load, and without the Hub token."""
    write_whole(Path(folder, "training_args.json"), json.dumps(args.to_dict(), indent=2, default=str))
