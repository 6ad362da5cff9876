"""Table of all flags of both trainers: the check of refused flags, and the answer to a change on resume."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from .refusals import REFUSED, plain

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
        losses grad_cache max_logit_scale ema_decay dtype image_sizes teacher_image_sizes
        stage tune_vision_tower lora vision_learning_rate projector_learning_rate group_by_modality_length
        kl_weight kl_temperature relation_weight relation_form relation_temperature reuse_projector
    """,
    NEVER: "optim fp16 metric_for_best_model greater_is_better",
    TAKEN: """
        num_train_epochs max_steps auto_find_batch_size max_skipped_steps max_hours ema_evaluate
        logging_strategy logging_steps logging_first_step
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
        prediction_loss_only eval_do_concat_batches eval_accumulation_steps
        include_for_metrics batch_eval_metrics
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
                    f"`{name}={plain(value)}` cannot be used for {args.trainer}: {refusal.why} "
                    f"{f'It may not be {values}.' if values else f'It must stay {default}.'} {refusal.fix}"
                )


def run_flags(args: Any) -> dict[str, Any]:
    """Return the flags that a resumed run must share, by name, for the identity of the run."""
    names = [name for name, rule in RESUME.items() if rule in (SAME, NEVER) and name not in _ELSEWHERE]
    return values_of(args, names)


def values_of(args: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of flags by name, without those that the arguments of this trainer lack."""
    return {name: plain(attrgetter(name)(args)) for name in names if hasattr(args, name.partition(".")[0])}


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
    return field.default_factory() if callable(field.default_factory) else plain(field.default)
