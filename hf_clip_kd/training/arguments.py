"""Arguments of runs that are stopped and resumed, shared by all trainers."""

from dataclasses import dataclass, field


# No `repr` of its own: it would hide that of the arguments it is mixed into.
@dataclass(kw_only=True, repr=False)
class CheckpointArguments:
    # Every field is documented once, in `help`. Stands before TrainingArguments among the bases.
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on from a checkpoint: its folder, or `auto`, the last whole one in `output_dir`, and from the start if "
            "there is none yet. The flag without a value is `auto`.",
            "nargs": "?",
            "const": "auto",
        },
    )
    allow_changed_resume: bool = field(
        default=False,
        metadata={
            "help": "Resume although teacher, losses, data or the number of processes are not those of the checkpoint. Then the "
            "run is no longer the one that was begun."
        },
    )
    on_failed_save: str = field(
        default="continue",
        metadata={
            "help": "What the run does when a checkpoint cannot be written, on a full disk say: `continue` until the next one, "
            "or `stop`. The last whole checkpoint stays either way.",
            "choices": ["continue", "stop"],
        },
    )
    max_hours: float | None = field(
        default=None,
        metadata={
            "help": "After so many hours of training, save a checkpoint and exit with code 0, as at SIGTERM or SIGUSR1; "
            "`resume_from_checkpoint` goes on. Leave time for one step and the saving."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.on_failed_save not in ("continue", "stop"):
            raise ValueError(
                f"`on_failed_save={self.on_failed_save!r}` is unknown. Allowed are `continue` and `stop`. Leave it out to "
                "continue."
            )
        if self.max_hours is not None and not self.max_hours > 0:
            raise ValueError(
                f"`max_hours={self.max_hours}` leaves no time to train. It must be above 0. Pass for example "
                "`--max_hours 23.5`, or leave it out."
            )
