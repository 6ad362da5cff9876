"""Table of all flags of both trainers: which are refused, and what a resumed run does with a changed flag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any

DISTILLATION, VLM = "distillation", "a vision-language model"

# Answers of a resumed run to a changed flag.
SAME = "must stay the same, unless `allow_changed_resume` takes the new value"
NEVER = "must stay the same, since the saved state cannot be read with another value"
TAKEN = "takes the new value"
FREE = "takes the new value, which does not touch the training"

_RESUME = {
    SAME: """
        per_device_train_batch_size gradient_accumulation_steps seed data_seed train_sampling_strategy
        dataloader_drop_last accelerator_config.dispatch_batches
        learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps weight_decay adam_beta1 adam_beta2
        adam_epsilon optim_args max_grad_norm average_tokens_across_devices
        label_smoothing_factor neftune_noise_alpha bf16 tf32
        losses grad_cache max_logit_scale ema_decay
        stage tune_vision_tower lora vision_learning_rate projector_learning_rate group_by_modality_length
    """,
    NEVER: "optim fp16 metric_for_best_model greater_is_better",
    TAKEN: """
        num_train_epochs max_steps auto_find_batch_size max_skipped_steps max_hours ema_evaluate
        logging_strategy logging_steps logging_first_step logging_nan_inf_filter
        eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size load_best_model_at_end
        save_strategy save_steps save_only_model save_total_limit save_on_each_node
        activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
        torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps full_determinism
        restore_callback_states_from_checkpoint use_cpu channels_last teacher_sharded fsdp fsdp_config deepspeed
        ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph
    """,
    FREE: """
        output_dir resume_from_checkpoint allow_changed_resume on_failed_save
        log_on_each_node log_level log_level_replica disable_tqdm report_to run_name project
        trackio_space_id trackio_bucket_id trackio_static_space_id include_num_input_tokens_seen skip_memory_metrics
        prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
        include_for_metrics batch_eval_metrics debug
        push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_revision
        accelerator_config.non_blocking accelerator_config.use_configured_state
        dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
        dataloader_multiprocessing_context ddp_backend ddp_timeout local_rank
    """,
}
RESUME: dict[str, str] = {name: rule for rule, names in _RESUME.items() for name in names.split()}
# The identity of a run holds these under other names.
_ELSEWHERE = set("per_device_train_batch_size gradient_accumulation_steps seed data_seed losses".split()) | set(
    "stage tune_vision_tower lora".split()
)
# These schedules lower the rate that they find. They have no rate of their own to begin anew with.
_ADAPTIVE = {"reduce_lr_on_plateau", "greedy"}
_SCHEDULE = set("learning_rate vision_learning_rate projector_learning_rate lr_scheduler_kwargs".split())


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
        value = _plain(value)
        words = {str(word) for word in (value if isinstance(value, list) else [value])}
        given = bool(words & set(self.values.split())) if self.values else value != default
        return given and args.trainer in self.trainers and not (self.unless is not None and self.unless(args))


def _mode_fits(args: Any) -> bool:
    mode = (args.lr_scheduler_kwargs or {}).get("mode", "min")
    return mode == ("max" if args.greater_is_better else "min")


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
    "logging_nan_inf_filter": (
        Refusal("A non-finite loss skips its step or stops the run instead of being hidden.", trainers=_D),
    ),
    "prediction_loss_only": (_PREDICTIONS,),
    "eval_do_concat_batches": (_PREDICTIONS,),
    "eval_use_gather_object": (_PREDICTIONS,),
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
    "debug": (Refusal("It prints what a TPU did, and a run here has none.", values="tpu_metrics_debug"),),
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


def check_flags(args: Any) -> None:
    """
    Refuse flags that would do nothing, or something else than they say.

    Args:
        args ([`RunArguments`]): Arguments of a trainer, whose `trainer` is `DISTILLATION` or `VLM`.

    Raises:
        ValueError: A flag has a value that the table refuses.
    """
    for name, refusals in REFUSED.items():
        value, default = attrgetter(name)(args), _default(args, name)
        for refusal in refusals:
            if refusal.applies(args, value, default):
                values = refusal.values.replace(" ", ", ")
                raise ValueError(
                    f"`{name}={_plain(value)}` cannot be used for {args.trainer}: {refusal.why} "
                    f"{f'It may not be {values}.' if values else f'It must stay {default}.'} {refusal.fix}"
                )


def run_flags(args: Any) -> dict[str, Any]:
    """Return the flags that a resumed run must share, by name, for the identity of the run."""
    names = [name for name, rule in RESUME.items() if rule in (SAME, NEVER) and name not in _ELSEWHERE]
    return {name: _plain(attrgetter(name)(args)) for name in names if hasattr(args, name.partition(".")[0])}


def unreadable(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """
    Return the changed flags with which the state in a checkpoint cannot be read.

    Args:
        then, now (`dict`): The flags of the checkpoint's run and of this run, both as [`run_flags`] gives them. A flag
            that either does not have counts as equal.
    """
    changed = [name for name in then.keys() & now.keys() if then[name] != now[name]]
    names = {name for name in changed if RESUME.get(name) == NEVER and None not in (then[name], now[name])}
    schedules = {then.get("lr_scheduler_type"), now.get("lr_scheduler_type")}
    if schedules & _ADAPTIVE:
        names |= (_SCHEDULE | {"lr_scheduler_type"}) & set(changed)
    return [f"{name} was {then[name]}, is {now[name]}" for name in sorted(names)]


def _default(args: Any, name: str) -> Any:
    owner, _, last = name.rpartition(".")
    field = (getattr(args, owner) if owner else args).__dataclass_fields__[last]
    return field.default_factory() if callable(field.default_factory) else _plain(field.default)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
