"""Refused flags of both trainers: those that would do nothing, or something else than they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

DISTILLATION, VLM = "distillation", "a vision-language model"


def plain(value: Any) -> Any:
    """Return the value of an enum, also inside a list, and any other value as it is."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True)
class Refusal:
    """
    Refuse a flag: all values but its default, or some values.

    Args:
        why (`str`): Sentence with the reason.
        fix (`str`): Sentence with what to do.
        trainers (`tuple[str, ...]`): Trainers that refuse it.
        values (`str`): The refused values, with spaces between them. Empty for all but the default.
        unless (`Callable`, *optional*): Takes the arguments, and returns whether the flag has a use with them.
    """

    why: str
    fix: str = "Leave it out."
    trainers: tuple[str, ...] = (DISTILLATION, VLM)
    values: str = ""
    unless: Callable[[Any], bool] | None = None

    def applies(self, args: Any, value: Any, default: Any) -> bool:
        """Return whether these arguments give the flag a value that is refused."""
        value = plain(value)
        words = {str(word) for word in (value if isinstance(value, list) else [value])}
        given = bool(words & set(self.values.split())) if self.values else value != default
        return given and args.trainer in self.trainers and not (self.unless is not None and self.unless(args))


def _mode_fits(args: Any) -> bool:
    mode = (args.lr_scheduler_kwargs or {}).get("mode", "min")
    return mode == ("max" if args.greater_is_better else "min")


# Parts of `optim_args` that an optimizer reads. Other optimizers come from packages that read their own.
_OPTIM_ARGS = {
    "adamw_torch": set(),
    "adamw_torch_fused": set(),
    "adafactor": set(),
    "sgd": {"momentum", "dampening", "nesterov"},
    "adagrad": {"lr_decay", "eps"},
    "rmsprop": {"momentum", "alpha", "eps", "centered"},
}


def _reads_optim_args(args: Any) -> bool:
    read = _OPTIM_ARGS.get(plain(args.optim))
    return read is None or {pair.split("=")[0].strip() for pair in args.optim_args.split(",")} <= read


def _has_warmup(args: Any) -> bool:
    return not args.warmup_steps or args.lr_scheduler_type not in ("constant", "reduce_lr_on_plateau", "greedy")


_D, _V = (DISTILLATION,), (VLM,)
_IN_BACKWARD = Refusal(
    "It steps inside of the backward pass. No step could be skipped there, and no gradient clipped.",
    "Take another `optim`.",
    values="lomo adalomo galore_adamw_layerwise galore_adamw_8bit_layerwise galore_adafactor_layerwise "
    "apollo_adamw_layerwise",
)
_LOW_RANK = Refusal(
    "It picks the matrices that it trains by itself, without the rates and the weight decay of their parts.",
    "Take another `optim`.",
    values="galore_adamw galore_adamw_8bit galore_adafactor apollo_adamw",
)
_SCHEDULE_FREE = Refusal(
    "Its average of weights is in place in evaluation loops alone, neither in checkpoints nor for evaluators.",
    "Take another `optim`, and `ema_decay` for an average.",
    values="schedule_free_radam schedule_free_adamw schedule_free_sgd",
)
_PREDICTIONS = Refusal("An evaluation of a student keeps no predictions.", "Pass an `evaluator`.", _D)
_HALF_EVALUATION = Refusal(
    "It turns the trained weights themselves into half precision, and the saved model with them.",
    "Leave it out. With `bf16` or `fp16` an evaluation computes in half precision as well.",
)
_LIGER = Refusal("Its kernels are for language models, and no run here was compared with them.")
_SCRIPT = Refusal("The recipe decides what it does, and nothing reads this flag.")

REFUSED: dict[str, tuple[Refusal, ...]] = {
    "optim": (_IN_BACKWARD, _LOW_RANK, _SCHEDULE_FREE),
    "lr_scheduler_type": (
        Refusal(
            "Its `mode` contradicts `greater_is_better`. It would lower the rate while the metric gets better.",
            'Pass `--lr_scheduler_kwargs \'{"mode": "max"}\'` for a metric that shall be large.',
            values="reduce_lr_on_plateau greedy",
            unless=_mode_fits,
        ),
    ),
    "lr_scheduler_kwargs": (
        Refusal(
            "A constant schedule has no options.",
            unless=lambda args: args.lr_scheduler_type not in ("constant", "constant_with_warmup"),
        ),
    ),
    "warmup_steps": (
        Refusal(
            "This `lr_scheduler_type` has no warm-up.",
            "Leave it out, or pass `--lr_scheduler_type constant_with_warmup`.",
            unless=_has_warmup,
        ),
    ),
    "optim_args": (
        Refusal(
            "This `optim` does not read it, or not all of it. Weight decay comes from `weight_decay` alone.",
            "Leave it out, or give what is read: `--optim sgd --optim_args momentum=0.9`.",
            unless=_reads_optim_args,
        ),
    ),
    "optim_target_modules": (Refusal("It belongs to `optim=galore_adamw` and its like, which are refused."),),
    "average_tokens_across_devices": (Refusal("A loss is a mean over pairs, and counts no tokens.", trainers=_D),),
    "label_smoothing_factor": (Refusal("Images and captions have no labels to smooth.", trainers=_D),),
    "neftune_noise_alpha": (
        Refusal("The noise is for the word embeddings of a language model.", trainers=_D),
        Refusal(
            "Stage `pretrain` trains no language model, so that nothing would add the noise.",
            "Leave it out, or pass `--stage finetune`.",
            _V,
            unless=lambda args: args.stage != "pretrain",
        ),
    ),
    "fp16_full_eval": (_HALF_EVALUATION,),
    "bf16_full_eval": (_HALF_EVALUATION,),
    "activation_checkpointing_kwargs": (
        Refusal(
            "It belongs to `activation_checkpointing`, which is off.",
            "Pass `--activation_checkpointing true` as well.",
            unless=lambda args: args.activation_checkpointing,
        ),
    ),
    "use_liger_kernel": (_LIGER,),
    "liger_kernel_config": (_LIGER,),
    "use_cache": (Refusal("The cache of keys and values is for generation, and a training generates nothing."),),
    "auto_find_batch_size": (
        Refusal(
            "A run out of memory would begin anew, with a smaller batch than it was told.",
            "Halve `per_device_train_batch_size` and double `gradient_accumulation_steps`.",
            _V,
        ),
    ),
    "logging_nan_inf_filter": (Refusal("A non-finite loss skips its step or stops the run instead of being hidden."),),
    "prediction_loss_only": (_PREDICTIONS,),
    "eval_do_concat_batches": (_PREDICTIONS,),
    "eval_use_gather_object": (Refusal("An evaluation gathers tensors of all processes, whatever this flag says."),),
    "eval_accumulation_steps": (_PREDICTIONS,),
    "include_for_metrics": (_PREDICTIONS,),
    "batch_eval_metrics": (_PREDICTIONS,),
    "enable_jit_checkpoint": (
        Refusal(
            "A run saves at SIGTERM anyway. Two handlers would leave the process deaf to the signal after it.",
            "Leave it out. `--resume_from_checkpoint auto` resumes a run that was told to stop.",
        ),
    ),
    "hub_always_push": (Refusal("Each push waits for the push before, so that no checkpoint is left out."),),
    "ignore_data_skip": (Refusal("A resumed run would train anew on rows that it has seen in this epoch."),),
    "parallelism_config": (
        Refusal("Each process trains on pairs of its own. Processes with the same pairs would count them twice."),
    ),
    "accelerator_config.split_batches": (
        Refusal("It divides `per_device_train_batch_size` among the processes.", "Leave it out, and divide the size."),
    ),
    "accelerator_config.even_batches": (
        Refusal(
            "Processes would get unequal numbers of batches. Those with more would wait for the others for ever.",
            "Leave it out, with `dataloader_drop_last` at its default, true.",
        ),
    ),
    "accelerator_config.use_seedable_sampler": (
        Refusal("The order of the rows would hang on random numbers that a resumed run does not have."),
    ),
    "accelerator_config.gradient_accumulation_kwargs": (
        Refusal("The Trainer accumulates gradients itself.", "Pass `gradient_accumulation_steps`."),
    ),
    "dataloader_in_order": (Refusal("Batches would come in any order, and a resumed run would miss some of them."),),
    "remove_unused_columns": (Refusal("The collator reads the columns that it would remove."),),
    "label_names": (Refusal("The collator names the labels."),),
    "train_sampling_strategy": (
        Refusal(
            "A resumed run could not find its place in this order.",
            "Pass `random`. A LLaVA has `group_by_modality_length`.",
            values="group_by_length batch_rebalance",
        ),
        Refusal(
            "`group_by_modality_length` makes the order of the rows.",
            "Pass `--group_by_modality_length false` as well.",
            _V,
            unless=lambda args: not args.group_by_modality_length,
        ),
    ),
    "length_column_name": (Refusal("It belongs to `train_sampling_strategy=group_by_length`, which is refused."),),
    "debug": (
        Refusal(
            "Its hooks fail at masks, which hold no numbers. A run names a loss that is not finite anyway.",
            values="underflow_overflow tpu_metrics_debug",
        ),
    ),
    "save_only_model": (
        Refusal(
            "With `max_hours` the run stops to be resumed, and its checkpoint could not be resumed.",
            "Leave out one of them.",
            unless=lambda args: args.max_hours is None,
        ),
    ),
    "do_train": (_SCRIPT,),
    "do_predict": (_SCRIPT,),
    "do_eval": (
        Refusal(
            "Evaluations come with `eval_strategy`, which is `no`.",
            "Pass `--eval_strategy steps`, or leave it out.",
            unless=lambda args: args.eval_strategy != "no",
        ),
    ),
}
