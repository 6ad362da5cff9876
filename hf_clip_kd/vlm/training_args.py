"""Arguments of the training of a vision-language model."""

import math
from dataclasses import dataclass, field

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..training.arguments import RunArguments
from ..training.refusals import VLM

STAGES = ("pretrain", "finetune")
RELATIONS = ("kl", "square")


# repr=False keeps TrainingArguments' repr, which hides the Hub token.
@dataclass(repr=False)
class LlavaTrainingArguments(RunArguments, TrainingArguments):
    # `help` documents every field once. The defaults are what both stages of LLaVA-1.5 share.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "lora"]
    trainer = VLM

    stage: str = field(
        default="finetune",
        metadata={
            "help": "Stage of LLaVA: `pretrain` trains the projector alone, `finetune` the projector and the language "
            "model.",
            "choices": list(STAGES),
        },
    )
    tune_vision_tower: bool = field(
        default=False, metadata={"help": "Train the vision tower, too. Frozen, it stays in eval mode."}
    )
    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the vision tower; default: `learning_rate`."}
    )
    projector_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the projector; default: `learning_rate`."}
    )
    lora: dict | None = field(
        default=None,
        metadata={
            "help": "Train low-rank adapters in place of the language model's own weights, and merge them in the end. "
            'Give the arguments of `peft.LoraConfig`, e.g. `{"r": 128, "lora_alpha": 256, "lora_dropout": 0.05}`.'
        },
    )
    kl_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the divergence from the teacher's answers (KL on supervised tokens). Without a teacher "
            "it counts nothing."
        },
    )
    kl_temperature: float = field(
        default=1.0, metadata={"help": "Temperature of both models' answers in that divergence, above 0."}
    )
    relation_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the difference of how visual tokens of an image relate to each other, after the "
            "projector. It needs a teacher."
        },
    )
    relation_form: str = field(
        default="kl",
        metadata={
            "help": "Form of that difference: `kl` is a divergence of the softmaxes of cosine similarities, `square` "
            "their mean squared difference.",
            "choices": list(RELATIONS),
        },
    )
    relation_temperature: float = field(default=0.07, metadata={"help": "Temperature of those softmaxes, above 0."})
    reuse_projector: bool = field(
        default=False,
        metadata={
            "help": "Take the teacher's projector, frozen, and train a linear adapter before it. Both are one stock "
            "projector in the saved model."
        },
    )
    group_by_modality_length: bool = field(
        default=True,
        metadata={"help": "Make batches of samples of like length, each with images or without any, as in LLaVA."},
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    warmup_steps: float = field(default=0.03, metadata={"help": "Steps of warm-up, or below 1 their share of all."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: the collator reads `messages` and `images`."}
    )

    @property
    def asks_teacher(self) -> bool:
        """True if a teacher is asked in each step. Its projector alone needs no answers."""
        return self.kl_weight > 0 or self.relation_weight > 0

    def __post_init__(self):
        super().__post_init__()
        if self.stage not in STAGES:
            raise ValueError(
                f"`stage={self.stage!r}` is no stage. The stages are {' and '.join(STAGES)}. Pass `--stage "
                f"{STAGES[0]}` to train the projector alone."
            )
        if self.lora is not None and self.stage == "pretrain":
            raise ValueError(
                "`lora` with `stage=pretrain`, which does not train the language model. Adapters belong to the second "
                "stage. Pass `--stage finetune`, or leave `lora` out."
            )
        if self.lora is not None and self.push_to_hub and self.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"`hub_strategy={self.hub_strategy.value}` with `lora`, whose checkpoints are adapters and no models. "
                "Only the merged model can be pushed. Pass `--hub_strategy end`."
            )
        if self.vision_learning_rate is not None and not self.tune_vision_tower:
            raise ValueError(
                f"`vision_learning_rate={self.vision_learning_rate}` with a frozen vision tower. It is the rate of a "
                "tower that learns. Pass `--tune_vision_tower true`, or leave the rate out."
            )
        if self.relation_form not in RELATIONS:
            raise ValueError(
                f"`relation_form={self.relation_form!r}` is no form of the relation. The forms are "
                f"{' and '.join(RELATIONS)}. Pass `--relation_form {RELATIONS[0]}`."
            )
        for name in ("kl_temperature", "relation_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"`{name}={getattr(self, name)}` divides what it makes soft. It must be a number above 0. Pass "
                    f"for example `--{name} 1`."
                )
        for name in ("kl_weight", "relation_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"`{name}={getattr(self, name)}` would push the student away from its teacher. It must be 0 or a "
                    f"number above. Pass `--{name} 0` to leave the term out."
                )
        if self.reuse_projector and self.lora is not None:
            raise ValueError(
                "`reuse_projector` with `lora`, which trains and saves a projector of its own. They do not go "
                "together. Leave one of the two out."
            )
