"""CaptionerTrainer: a `transformers.Trainer` for a caption decoder on a frozen teacher's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from ..teachers.base import Teacher
from ..teachers.reader import Captioner
from ..teachers.reader.answering import texts_in
from ..training.arguments import RunArguments
from ..training.base_trainer import BaseTrainer
from ..training.refusals import DISTILLATION
from ..training.trainer_arguments import refuse_arguments

REFUSED = {"eval_dataset": "A reader is as good as the students that learn from it. Leave it out."}


# repr=False keeps TrainingArguments' repr, which hides the Hub token.
@dataclass(repr=False)
class CaptionerTrainingArguments(RunArguments, TrainingArguments):
    # `help` documents every field once.
    trainer = DISTILLATION

    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: the collator reads `image` and `text`."}
    )
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last, smaller batch."})


class CaptionerTrainer(BaseTrainer):
    """
    Train a [`Captioner`] on the tokens of a frozen teacher. Its folder is then a reader of that teacher.

    Args:
        model ([`Captioner`]): A decoder for tokens of the teacher's width.
        args ([`CaptionerTrainingArguments`]): Training arguments.
        teacher ([`Teacher`]): The teacher, prepared to give its tokens. It is never trained.
        train_dataset: Rows with `image` and `text`, and perhaps `question` and `answers`.
        data_collator (`Callable`): A [`CLIPDataCollator`] with the teacher's image processor and the decoder's texts.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The decoder's, saved beside it.
        kwargs: The other arguments of [`~transformers.Trainer`].

    Raises:
        ValueError: An argument of the stock Trainer would have no effect.
    """

    _name = "captioner"
    _tag_names = ["captioner", "hf_clip_kd"]
    # The loss is a mean over a batch: the Trainer has to divide by the number of accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: Captioner,
        args: CaptionerTrainingArguments,
        teacher: Teacher,
        train_dataset,
        data_collator: Callable[[list], dict],
        tokenizer: PreTrainedTokenizerBase,
        **kwargs,
    ):
        refuse_arguments("CaptionerTrainer", kwargs, REFUSED)
        self.teacher = teacher
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=data_collator,
            processing_class=tokenizer,
            **kwargs,
        )
        self.teacher.place(self.args.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the cross-entropy of the texts in nats, a mean over the words of a text and then over texts."""
        with self.throughput.clock("teacher"), torch.no_grad():
            tokens = self.teacher(pixel_values=inputs["pixel_values"]).image_tokens
        outputs = model(tokens=tokens, **texts_in(inputs, 0))
        loss = self.guard.check_loss(outputs.loss, {"caption": outputs.loss})
        return (loss, outputs) if return_outputs else loss

    def run_identity(self) -> dict[str, Any]:
        """Return the teacher besides what describes any run."""
        return super().run_identity() | {"teacher": self.teacher.identity()}


__all__ = ["CaptionerTrainer", "CaptionerTrainingArguments"]
