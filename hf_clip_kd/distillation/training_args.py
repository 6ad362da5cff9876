"""Arguments of the distillation trainer."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..training.arguments import RunArguments
from ..training.refusals import DISTILLATION


# repr=False keeps TrainingArguments' repr, which hides the Hub token.
@dataclass(repr=False)
class DistillationTrainingArguments(RunArguments, TrainingArguments):
    # `help` documents every field once. The optimizer's defaults are CLIP-KD's.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "losses"]
    trainer = DISTILLATION

    losses: dict | str | None = field(
        default="clip_kd",
        metadata={
            "help": "Objective: a published sum such as `clip_kd`, or a mapping of loss names to weights. Options "
            'take the place of a weight, e.g. `{"clip": 1, "fd": {"weight": 2000, "reduction": "mean"}}`. A weight '
            'may change at shares of the steps: `{"clip": 1, "patch": {"weight": {"0": 2, "0.5": 0.5}}}`. The '
            "command line takes it as JSON."
        },
    )
    grad_cache: bool = field(
        default=True,
        metadata={
            "help": "Train on all micro-batches of a step as on one batch, if `gradient_accumulation_steps` is above "
            "1. Each sample then has all others as negatives. It costs a second forward pass of the student. False "
            "averages the losses of the small batches."
        },
    )
    teacher_sharded: bool = field(
        default=False,
        metadata={
            "help": "Shard a teacher that is too large for each GPU over the processes, under any engine. Each "
            "block is gathered in every forward pass."
        },
    )
    max_logit_scale: float = field(
        default=100.0,
        metadata={"help": "Learned scales (inverse temperatures) of student and losses are clamped to at most this."},
    )
    image_sizes: list[int] | None = field(
        default=None,
        metadata={"help": "Image sizes of the student in pixels. Each step draws one; evaluations see its own."},
    )
    teacher_image_sizes: list[int] | None = field(
        default=None, metadata={"help": "The same for the teacher, drawn apart from the student's."}
    )
    channels_last: bool = field(
        default=False,
        metadata={"help": "Lay kernels and images of student and teacher out with the channels last, for convnets."},
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Type of the student's weights, whatever the type on disk. In half precision most small steps of "
            "an optimizer are lost. `bf16` is faster, too, and keeps float32 weights.",
            "choices": ["float32", "bfloat16", "float16"],
        },
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(
        default=0.1, metadata={"help": "Weight decay of matrices; vectors, biases, norms and scales have none."}
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "AdamW's beta2."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "AdamW's epsilon."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: the collator reads `image` and `text`."}
    )
    dataloader_drop_last: bool = field(
        default=True,
        metadata={
            "help": "Drop the last, smaller batch of the training; padding it with repeated samples makes false "
            "negatives. An evaluation drops none."
        },
    )
    auto_find_batch_size: bool = field(
        default=False,
        metadata={
            "help": "Try before the first step whether a batch fits the memory. Cut it into micro-batches if it does "
            "not; the objective stays that of the whole batch. `per_device_train_batch_size` and "
            "`gradient_accumulation_steps` change, their product does not."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.auto_find_batch_size and not self.grad_cache:
            raise ValueError(
                "`auto_find_batch_size=True` with `grad_cache=False`: a batch that is cut up would lose its "
                "negatives. Micro-batches must train as one batch. Leave `grad_cache` out."
            )
        if self.auto_find_batch_size and self.teacher_sharded:
            raise ValueError(
                "`auto_find_batch_size=True` with `teacher_sharded=True`: each process tries by itself, and no "
                "process has that teacher alone. Only one of them can be given. Halve `per_device_train_batch_size` "
                "and double `gradient_accumulation_steps` by hand."
            )
        if not self.max_logit_scale > 0:
            raise ValueError(
                f"`max_logit_scale={self.max_logit_scale}` is no bound of a scale. It must be above 0. Leave it out "
                "for 100, or pass for example `--max_logit_scale 50`."
            )
        if self.dtype not in (allowed := self.__dataclass_fields__["dtype"].metadata["choices"]):
            raise ValueError(
                f"`dtype={self.dtype!r}` is no type for weights under training. Allowed are {', '.join(allowed)}. "
                "Leave it out for float32."
            )
        if not isinstance(self.losses, dict | str) or not self.losses:
            raise ValueError(
                f"`losses={self.losses!r}` is not an objective. It must map loss names to weights. Give for example "
                "`losses: {clip: 1.0, fd: 4.0}` in YAML or `--losses '{\"clip\": 1.0}'`."
            )
