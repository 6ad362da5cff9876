"""Effects of the flags of `TrainingArguments`: a function for each flag that is not refused sees what it does."""

import itertools
import sys
import types
from collections import defaultdict

import pytest
import torch
import transformers
from miniature import BATCH, Pairs, best_of, logs, make_args, make_trainer
from torch.utils.data import RandomSampler, SequentialSampler

EFFECTS, SLOW = defaultdict(list), set()

# Flags whose effect other tests see.
SEEN_BY = {
    "output_dir": "training/test_checkpoint_files.py::test_files_of_a_checkpoint",
    "bf16": "invariants/test_switches.py::test_bfloat16",
    "fp16": "gpu/test_switches_on_gpu.py::test_half_precision",
    "activation_checkpointing": "invariants/test_switches.py::test_activation_checkpointing",
    "label_smoothing_factor": "vlm/test_trainer.py::test_smoothed_labels_are_those_of_the_next_token",
    "auto_find_batch_size": "distillation/test_batch_fit.py::test_pieces_train_as_the_whole",
    "save_total_limit": "training/test_checkpoints.py::test_older_ones_are_deleted_only_when_the_new_one_is_whole",
    "push_to_hub": "training/test_pushing.py::test_end_of_training_is_one_commit",
    "hub_token": "training/test_pushing.py::test_a_token_by_argument_stays_in_memory",
    "hub_private_repo": "training/test_pushing.py::test_end_of_training_is_one_commit",
    "hub_model_id": "training/test_pushing.py::test_end_of_training_is_one_commit",
    "hub_strategy": "training/test_pushing.py::test_every_save_pushes_each_checkpoint_whole",
    "hub_revision": "training/test_pushing.py::test_end_of_training_is_one_commit",
    "restore_callback_states_from_checkpoint": "training/test_flags.py::test_callbacks_go_on_where_they_were",
    "resume_from_checkpoint": "training/test_checkpoints.py::test_flag_without_a_value",
    "accelerator_config.dispatch_batches": "invariants/test_uneven_data.py::test_all_processes_take_the_same_steps",
    "fsdp": "training/test_launch.py::test_fsdp_builds_its_plugin_and_finds_the_blocks",
    "fsdp_config": "training/test_launch.py::test_fsdp_builds_its_plugin_and_finds_the_blocks",
    "deepspeed": "invariants/test_engines.py::test_each_engine_is_the_one_that_was_asked_for",
}


def shows(*names, slow=False):
    """Register a function of a [`World`] that sees the effects of these flags."""

    def register(function):
        SLOW.update([function] if slow else [])
        for name in names:
            EFFECTS[name].append(function)
        return function

    return register


class World:
    """A folder for runs, and places to look at in transformers."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.patch, self.numbers = folder, monkeypatch, itertools.count()

    def make(self, **flags):
        """A trainer of the smallest student without a teacher, for two steps."""
        folder = self.folder / str(next(self.numbers))
        return make_trainer(folder, teacher=False, **{"losses": {"clip": 1.0}, "max_steps": 2} | flags)

    def train(self, **flags):
        run = self.make(**flags)
        run.result = run.train()
        return run

    def record(self, place, name, result=None):
        """Replace a function, and return the list of the arguments of its calls."""
        calls = []
        self.patch.setattr(place, name, lambda *args, **kwargs: calls.append((args, kwargs)) or result)
        return calls

    def args_of_process(self, index, local_index, **flags):
        """Arguments of one process among several."""
        args = make_args(self.folder, **flags)
        args.distributed_state = types.SimpleNamespace(
            process_index=index, local_process_index=local_index, num_processes=4, distributed_type="MULTI_GPU"
        )
        return args


# ---- Duration, batches and data ----


@shows("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps")
def epochs(world):
    run = world.train(max_steps=-1, num_train_epochs=2, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    assert run.state.global_step == 2 * len(Pairs()) / (2 * 4)


@shows("max_steps")
def steps(world):
    assert world.train(max_steps=1).state.global_step == 1


@shows("dataloader_drop_last")
def last_batch(world):
    lengths = [
        len(world.make(dataset=Pairs(12), dataloader_drop_last=x).get_train_dataloader()) for x in (True, False)
    ]
    assert lengths == [1, 2]


@shows("train_sampling_strategy")
def order(world):
    kinds = [type(world.make(train_sampling_strategy=x)._get_train_sampler()) for x in ("random", "sequential")]
    assert kinds == [RandomSampler, SequentialSampler]


@shows("seed")
def seed(world):
    world.make(seed=7)
    assert torch.initial_seed() == 7


@shows("data_seed")
def data_seed(world):
    runs = [world.make(data_seed=x, train_sampling_strategy="random") for x in (1, 1, 2)]
    first = [next(iter(run.get_train_dataloader()))["input_ids"].tolist() for run in runs]
    assert first[0] == first[1] != first[2]


WORKERS = {
    "num_workers": 2,
    "persistent_workers": True,
    "prefetch_factor": 3,
    "multiprocessing_context": "spawn",
}


@shows(*(f"dataloader_{name}" for name in WORKERS))
def workers(world):
    flags = {f"dataloader_{name}": value for name, value in WORKERS.items()}
    loader = world.make(**flags).get_train_dataloader()
    assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (2, True, 3)
    assert loader.multiprocessing_context.get_start_method() == "spawn"


@shows(*(f"dataloader_{name}" for name in WORKERS))
def workers_of_a_stream(world):
    dataset = Pairs()
    dataset.loader = lambda batch_size, collator, **options: options
    flags = {f"dataloader_{name}": value for name, value in WORKERS.items()}
    assert world.make(dataset=dataset, **flags).get_train_dataloader().items() >= WORKERS.items()


@shows("dataloader_pin_memory", "use_cpu")
def pinned_memory(world):
    pinned = [
        make_args(world.folder, use_cpu=cpu, dataloader_pin_memory=pin).dataloader_pin_memory
        for cpu, pin in ((False, True), (False, False), (True, True))
    ]
    assert pinned == [True, False, False]


@shows("accelerator_config.non_blocking")
def non_blocking(world):
    assert world.make(accelerator_config={"non_blocking": True}).accelerator.dataloader_config.non_blocking


@shows("accelerator_config.use_configured_state")
def configured_state(world):
    world.patch.setattr("transformers.training_args.PartialState._shared_state", {})
    with pytest.raises(ValueError, match="requires a pre-configured"):
        make_args(world.folder, accelerator_config={"use_configured_state": True})


# ---- Optimizer ----


@shows("learning_rate", "lr_scheduler_type", "warmup_steps")
def rates(world):
    run = world.train(max_steps=4, learning_rate=0.1, lr_scheduler_type="linear", warmup_steps=2)
    assert logs(run, "learning_rate") == pytest.approx([0, 0.05, 0.1, 0.05])


@shows("lr_scheduler_kwargs")
def rates_of_a_schedule_with_options(world):
    options = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.05, "power": 1.0}}
    run = world.train(max_steps=4, learning_rate=0.1, **options)
    assert logs(run, "learning_rate") == pytest.approx([0.1, 0.0875, 0.075, 0.0625])


@shows("lr_scheduler_type", slow=True)
def rate_that_follows_the_metric(world):
    options = {"mode": "max", "patience": 0, "factor": 0.5}
    flags = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": options}
    run = world.train(**flags, **best_of(0.5, 0.4, 0.3, 0.2), max_steps=4, learning_rate=0.1)
    assert logs(run, "learning_rate") == pytest.approx([0.1, 0.1, 0.05, 0.025])


@shows("optim", "optim_args")
def optimizer(world):
    kinds = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adafactor": "Adafactor"}
    assert {name: type(world.make(optim=name).create_optimizer()).__name__ for name in kinds} == kinds
    assert world.make(optim="sgd", optim_args="momentum=0.5").create_optimizer().defaults["momentum"] == 0.5


@shows("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay")
def adam(world):
    given = {"adam_beta1": 0.5, "adam_beta2": 0.6, "adam_epsilon": 0.25, "weight_decay": 0.75}
    groups = world.make(**given).create_optimizer().param_groups
    assert {(group["betas"], group["eps"]) for group in groups} == {((0.5, 0.6), 0.25)}
    assert {group["weight_decay"] for group in groups} == {0.75, 0.0}


@shows("max_grad_norm")
def clipping(world):
    run = world.make(max_grad_norm=1e-3, optim="sgd", learning_rate=1.0, weight_decay=0.0, max_steps=1)
    before = [x.detach().clone() for x in run.model.parameters()]
    run.train()
    moves = [(now.detach() - then).flatten() for now, then in zip(run.model.parameters(), before, strict=True)]
    assert torch.cat(moves).norm().item() == pytest.approx(1e-3, rel=1e-2) and logs(run, "grad_norm")[0] > 1


# ---- Speed and precision ----


@shows("tf32")
def tf32(world):
    world.patch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    calls = world.record(transformers.training_args, "enable_tf32")
    make_args(world.folder, tf32=True)
    make_args(world.folder, tf32=False)
    assert [args for args, _ in calls] == [(True,), (False,)]


@shows("activation_checkpointing_kwargs", slow=True)
def checkpointing_options(world):
    plain = logs(world.train(), "loss")
    model = type(world.make().model)
    enable, given = model.activation_checkpointing_enable, []

    def recorded(self, **kwargs):
        given.append(kwargs.pop("activation_checkpointing_kwargs") or kwargs)
        enable(self, activation_checkpointing_kwargs=given[-1] if "use_reentrant" in given[-1] else None, **kwargs)

    world.patch.setattr(model, "activation_checkpointing_enable", recorded)
    for options in ({"use_reentrant": True}, {"every_n_layers": 2}):
        run = world.train(activation_checkpointing=True, activation_checkpointing_kwargs=options)
        assert given[-1].items() >= options.items() and logs(run, "loss") == pytest.approx(plain)


@shows("gradient_checkpointing", "gradient_checkpointing_kwargs")
def old_names_of_checkpointing(world):
    with pytest.warns(FutureWarning):
        args = make_args(
            world.folder, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}
        )
    assert args.activation_checkpointing and args.activation_checkpointing_kwargs == {"use_reentrant": True}


@shows("torch_compile", "torch_compile_backend", "torch_compile_mode")
def compiler(world):
    plugins = [
        world.make(**flags).accelerator.state.dynamo_plugin
        for flags in ({}, {"torch_compile": True}, {"torch_compile_backend": "eager", "torch_compile_mode": "default"})
    ]
    assert [str(plugin.backend.value) for plugin in plugins] == ["NO", "INDUCTOR", "EAGER"]
    assert plugins[2].mode == "default"


@shows("torch_empty_cache_steps")
def emptied_cache(world):
    calls = world.record(transformers.trainer, "clear_device_cache")
    world.train(torch_empty_cache_steps=2, max_steps=4)
    assert len(calls) == 2


@shows("full_determinism")
def determinism(world):
    calls = world.record(transformers.trainer, "enable_full_determinism")
    world.make(full_determinism=True, seed=5)
    assert calls == [((5,), {})]


# ---- Processes ----


@shows(*(f"ddp_{name}" for name in ("find_unused_parameters", "bucket_cap_mb", "broadcast_buffers", "static_graph")))
def replicas(world):
    values = {"find_unused_parameters": False, "bucket_cap_mb": 7, "broadcast_buffers": False, "static_graph": True}
    handler = world.make(**{f"ddp_{name}": value for name, value in values.items()}).accelerator.ddp_handler
    assert {name: getattr(handler, name) for name in values} == values


@shows("ddp_backend", "ddp_timeout")
def process_group(world):
    state = types.SimpleNamespace(device=torch.device("cpu"), distributed_type="NO", num_processes=1)
    calls = world.record(transformers.training_args, "PartialState", state)
    transformers.TrainingArguments(str(world.folder), ddp_backend="gloo", ddp_timeout=9)
    assert calls[0][1]["backend"] == "gloo" and calls[0][1]["timeout"].seconds == 9


@shows("local_rank")
def rank_given_by_the_launcher(world):
    assert make_args(world.folder, local_rank=0).local_process_index == 0


@shows("save_on_each_node", "log_on_each_node")
def second_node(world):
    for on in (True, False):
        args = world.args_of_process(2, 0, save_on_each_node=on, log_on_each_node=on)
        assert args.should_save == on and args.should_log == on
        args = world.args_of_process(3, 1, save_on_each_node=on, log_on_each_node=on)
        assert not args.should_save and not args.should_log


# ---- Logs ----


@shows("logging_steps", "logging_first_step", "logging_strategy", slow=True)
def logged_steps(world):
    def seen(**flags):
        run = world.train(max_steps=5, **flags)
        return [entry["step"] for entry in run.state.log_history if "loss" in entry]

    assert seen(logging_steps=3) == [3]
    assert seen(logging_steps=3, logging_first_step=True) == [1, 3]
    assert seen(logging_strategy="epoch") == [len(Pairs()) // BATCH, 5]


@shows("log_level", "log_level_replica")
def log_levels(world):
    levels = [
        world.args_of_process(index, index, log_level="error", log_level_replica="info").get_process_log_level()
        for index in (0, 1)
    ]
    assert levels == [transformers.logging.ERROR, transformers.logging.INFO]


@shows("disable_tqdm")
def progress(world):
    for on, name in ((True, "PrinterCallback"), (False, "ProgressCallback")):
        callbacks = world.make(disable_tqdm=on).callback_handler.callbacks
        assert {type(x).__name__ for x in callbacks} & {"PrinterCallback", "ProgressCallback"} == {name}


@shows("include_num_input_tokens_seen")
def counted_tokens(world):
    assert logs(world.train(include_num_input_tokens_seen="all"), "num_input_tokens_seen")[-1] == 2 * BATCH * 6
    run = world.make(include_num_input_tokens_seen="non_padding")
    run._track_num_input_tokens(
        {"input_ids": torch.ones(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    )
    assert run.state.num_input_tokens_seen == 3


@shows("skip_memory_metrics")
def memory(world):
    for skipped in (True, False):
        metrics = world.train(skip_memory_metrics=skipped, max_steps=1).result.metrics
        assert any("mem_cpu" in name for name in metrics) != skipped


@shows("report_to", "project", "run_name", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
def tracker(world):
    asked = {}
    place = types.SimpleNamespace(get=lambda: None)
    config = type("Config", (dict,), {"update": lambda self, *args, **kwargs: None})()
    fake = types.SimpleNamespace(
        init=lambda **options: asked.update(options),
        sync=lambda **options: asked.update(static=options["space_id"]),
        log=lambda values: None,
        finish=lambda: None,
        config=config,
        context_vars=types.SimpleNamespace(
            current_space_id=place, current_project=types.SimpleNamespace(get=lambda: "p")
        ),
    )
    world.patch.setitem(sys.modules, "trackio", fake)
    world.patch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    flags = {"trackio_space_id": "s", "trackio_bucket_id": "b", "trackio_static_space_id": "t"}
    run = world.train(report_to="trackio", project="p", run_name="r", **flags)
    run.callback_handler.on_push_begin(run.args, run.state, run.control)
    assert (asked["project"], asked["name"], asked["space_id"], asked["bucket_id"]) == ("p", "r", "s", "b")
    assert asked["static"] == "t"


# ---- Evaluation and checkpoints ----


@shows("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size", slow=True)
def evaluations(world):
    def seen(**flags):
        flags = {"eval_strategy": "steps", "eval_steps": 1} | flags
        run = world.train(eval_dataset=Pairs(8), max_steps=4, **flags)
        return [entry["step"] for entry in run.state.log_history if "eval_loss" in entry]

    assert seen(eval_steps=2) == [2, 4]
    assert seen(eval_delay=3) == [3, 4]
    assert seen(eval_strategy="epoch", eval_on_start=True) == [0, 4]
    run = world.make(eval_dataset=Pairs(8), per_device_eval_batch_size=4)
    assert len(run.get_eval_dataloader()) == 2


@shows("save_strategy", "save_steps", "save_only_model")
def saved_files(world):
    runs = [
        world.train(max_steps=4, save_steps=3, save_strategy=strategy, save_only_model=only)
        for strategy, only in (("steps", False), ("epoch", True))
    ]
    found = [sorted(world.folder.glob(f"{number}/checkpoint-*")) for number in range(len(runs))]
    assert [[path.name for path in paths] for paths in found] == [["checkpoint-3", "checkpoint-4"], ["checkpoint-4"]]
    assert [all((path / "optimizer.pt").exists() for path in paths) for paths in found] == [True, False]


@shows("load_best_model_at_end", "metric_for_best_model", "greater_is_better", slow=True)
def best(world):
    run = world.train(**best_of(0.1, 0.9, 0.5, 0.2), max_steps=4)
    assert run.state.best_global_step == 2
    run = world.train(**best_of(0.1, 0.9, 0.05, 0.2) | {"greater_is_better": False}, max_steps=4)
    assert run.state.best_global_step == 3 and run.state.best_metric == 0.05
