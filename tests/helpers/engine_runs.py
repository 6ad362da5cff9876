"""Runs of the miniature trainer under every engine, several processes on gloo; each leaves in a file what came out."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from every_loss import collate as collate_with_texts
from loss_inputs import SMALL
from made_up_reader import LinearReader
from miniature import ALL_LOSSES, Pairs, Teacher, collate, make_args, make_clip
from processes import join, leave
from teacher_models import tiny_clip

from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.losses.base import DistillationLoss
from hf_clip_kd.models import encode_layers, token_shape
from hf_clip_kd.teachers.base import to_loss_features
from hf_clip_kd.teachers.clip import CLIPTeacher
from hf_clip_kd.training.sharded import gather_full_model, is_sharded, whole_values

WINDOW, STEPS = 12, 20
LAUNCH_SECONDS = 560
# torch gathers the shards of FSDP 2 by functional collectives. On gloo these corrupt a process's memory now and then.
# A program of torch alone ends so, too: "malloc(): unaligned tcache chunk detected".
CRASHES = {"fsdp2": 1}


def zero(stage):
    config = {"stage": stage}
    if stage == 3:
        config["stage3_param_persistence_threshold"] = 0  # else all of so small a model stays whole
        config["stage3_gather_16bit_weights_on_model_save"] = True
    keys = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {**dict.fromkeys(keys, "auto"), "zero_allow_untested_optimizer": True, "zero_optimization": config}


ENGINES = {
    "ddp": {},
    "zero1": {"deepspeed": zero(1)},
    "zero2": {"deepspeed": zero(2)},
    "zero3": {"deepspeed": zero(3)},
    "fsdp2": {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}},
}


def engine_cases(processes, engines=tuple(ENGINES)):
    """Each engine with a number of processes, for `pytest.mark.parametrize` and fixtures."""
    return [pytest.param((engine, processes), id=f"{engine}-{processes}processes") for engine in engines]


class Tide(DistillationLoss):
    """Raise the student's scale for ten steps, then lower it. A scale that was held at a bound falls at once."""

    needs_teacher = False

    def __init__(self, student, teacher):
        super().__init__(student, teacher)
        self.calls = 0

    def compute(self, student, teacher):
        self.calls += 1
        return student.logit_scale.log() * (-1 if self.calls <= 10 else 1) + 0 * student.image_embeds.sum()


class DenseTeacher(Teacher):
    """A teacher that gives tokens and class tokens of its layers, too."""

    def prepare(self, request):
        self.request = request
        shapes = {layer: token_shape(self.model, layer) for layer in request.teacher_reads}
        self.grids = {layer: grid for layer, (_, grid) in shapes.items()}
        self.dims = self.dims.with_layers({layer: width for layer, (width, _) in shapes.items()})

    @torch.no_grad()
    def forward(self, pixel_values, input_ids):
        features = super().forward(pixel_values, input_ids)
        if not self.request.teacher_reads:
            return features
        _, tokens, _ = encode_layers(self.model, pixel_values, self.request.teacher_reads)
        features = features.with_tokens(tokens, self.grids, self.request)
        return to_loss_features(features, self.request, pixel_values.device)


# Heads of several layers, and statistics that are measured in the first steps only.
DENSE = {"pairs": [[-2, -2], [-1, -1, 0.5]], "hidden_dim": 6, "statistics": 8, "summary": "class_token"}
# Arguments of the trainer beside the engine.
RUNS = {
    "plain": {},
    "dense": {"losses": {"clip": 1.0, "patch": DENSE}},
    "grad_cache": {"gradient_accumulation_steps": 2},
    "accumulation": {"gradient_accumulation_steps": 2, "grad_cache": False},
    "bound": {"losses": {"clip": 0.01, "engine_runs.Tide": 1.0}, "max_logit_scale": 15.0, "learning_rate": 1e-2},
    "sharded_teacher": {"teacher_sharded": True},
    "curriculum": {
        # No head comes on later: ZeRO counts Adam's steps for all heads together.
        "losses": {
            "clip": 1.0,
            "crd": {"weight": {0: 0, 0.5: 1.0}},
            "icl": {"weight": {"ramp": {0: 2.0, 1: 0.5}}},
            "fd": {"weight": {0: 4.0, 0.25: 0}},
        }
    },
    "reader": {
        "losses": {"clip": 1.0, "reader": 1.0, "caption": {"weight": 1.0, "parallel": 0.5, **SMALL["caption"]}}
    },
    # Evaluated in between, with the average in the place of the weights, which go on as if nothing had been.
    "average": {"ema_decay": 0.9, "eval_strategy": "steps", "eval_steps": 5},
}


def make_run(folder, processes=1, student=None, dataset=None, **settings):
    """A trainer that sees the same 12 pairs in each of its 20 steps, however they are split."""
    micro_batches = settings.get("gradient_accumulation_steps", 1)
    defaults = {
        "per_device_train_batch_size": WINDOW // micro_batches // processes,
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "losses": ALL_LOSSES,
    }
    args = make_args(folder, **defaults | settings)
    # Models come after the arguments, as in the recipes, since ZeRO-3 would shard them from here on.
    student, data = student or make_clip(), Pairs(WINDOW * STEPS) if dataset is None else dataset
    if "reader" not in args.losses:
        teacher = DenseTeacher(make_clip(24, 20, seed=1))
        return DistillationTrainer(student, args, teacher, data, Pairs(WINDOW), data_collator=collate)
    model, processor = tiny_clip()
    teacher, readers = CLIPTeacher(model, processor=processor), [LinearReader(32, 16)]
    return DistillationTrainer(student, args, teacher, data, data_collator=collate_with_texts, readers=readers)


def weights(module):
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, whole_values(parameters), strict=True)) | dict(module.named_buffers())


def outcome(run, folder):
    """Train, save, and tell what came of it."""
    teacher = weights(run.teacher)
    run.train()
    log = [entry for entry in run.state.log_history if "loss" in entry]
    run.save_model(folder)
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    after = weights(run.teacher)
    pixels, ids = (torch.stack([Pairs(4)[i][key] for i in range(4)]) for key in ("pixel_values", "input_ids"))
    with torch.no_grad():
        student = gather_full_model(run.student)
        logits = student(pixel_values=pixels, input_ids=ids).logits_per_image
    return {
        "loss": [entry["loss"] for entry in log],
        "grad_norm": [float(entry["grad_norm"]) for entry in log],
        "logit_scale": [entry["logit_scale"] for entry in log],
        "state": weights(run.model),
        "logits": logits,
        "wrapped": type(run.model_wrapped).__name__,
        "sharded": is_sharded(run.model),
        "held": sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in run.teacher.parameters()),
        "teacher moved": [name for name in teacher if not torch.equal(teacher[name], after[name])],
        "teacher trained": [name for name, p in run.teacher.named_parameters() if p.requires_grad or id(p) in trained],
        "teacher trains": run.teacher.model.training,
    }


def resumed(folder, processes, engine):
    """The whole of a run, and of one that goes on from its middle, to the last bit."""
    found = []
    for checkpoint in (None, f"{folder}/checkpoint-4"):
        settings = {
            "max_steps": 8,
            "save_strategy": "steps",
            "save_steps": 4,
            "ema_decay": 0.9,
            "optim": "adamw_torch",
        }
        # Dropout, so that the random numbers count; a window of two micro-batches.
        settings |= {"gradient_accumulation_steps": 2, "max_logit_scale": 14.3, "lr_scheduler_type": "cosine"}
        # Statistics are still measured after the checkpoint, and weights change at it and later.
        changing = {"crd": {"weight": {0: 0.5, 0.5: 1.0}}, "icl": {"weight": {"ramp": {0: 2.0, 1: 0.5}}}}
        settings |= {"losses": ALL_LOSSES | changing | {"patch": DENSE | {"statistics": 6}}}
        run = make_run(folder, processes, make_clip(attention_dropout=0.2), ema_evaluate=False, **settings, **engine)
        run.train(resume_from_checkpoint=checkpoint)
        log = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
        found.append({"state": weights(run.model), "average": run.ema.average.values, "loss": log[4:]})
        forget_engine()
    return found


class OneBad(Pairs):
    """A number that is none, in the third step."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return row | {"pixel_values": row["pixel_values"] * float("nan")} if index == 2 * WINDOW + 1 else row


def guarded(folder, processes, skips, engine, spoil=False):
    """Return the error and the steps of a run with a bad sample, or with a bad gradient alone."""
    data = Pairs(WINDOW * STEPS) if spoil else OneBad(WINDOW * STEPS)
    run = make_run(folder, processes, dataset=data, max_skipped_steps=skips, max_steps=5, **engine)
    if spoil:
        run.model.student.visual_projection.weight.register_hook(
            lambda gradient: gradient * float("inf") if run.state.global_step == 2 else gradient
        )
    said = ""
    try:
        run.train()
    except FloatingPointError as error:
        said = str(error)
    finite = all(bool(value.isfinite().all()) for value in weights(run.model).values())
    skipped = [entry["skipped_steps"] for entry in run.state.log_history if "skipped_steps" in entry]
    forget_engine()
    return {"said": said, "finite": finite, "skipped": skipped[-1:], "steps": run.state.global_step}


def fsdp_on_cpu():
    """Accelerate knows no FSDP on CPUs, though torch does: it would make plain DDP of it."""
    init = AcceleratorState.__init__

    def patched(self, *args, fsdp_plugin=None, **kwargs):
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = self.distributed_type

    AcceleratorState.__init__ = patched


def forget_engine():
    AcceleratorState._reset_state(True)
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_")):
            del os.environ[name]


def prepare(engine):
    """Prepare an engine on a CPU, once in each process."""
    if engine.startswith("zero"):
        import deepspeed

        # Else DeepSpeed compiles its own communication through shared memory for a minute.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if engine.startswith("fsdp"):
        fsdp_on_cpu()


def train_all(rank, processes, port, folder, engine):
    join(rank, processes, port)
    prepare(engine)
    for name, settings in RUNS.items():
        run = make_run(f"{folder}/{name}", processes, **ENGINES[engine], **settings)
        torch.save(outcome(run, f"{folder}/{name}"), f"{folder}/{name}{rank}.pt")
        forget_engine()
    torch.save(resumed(f"{folder}/resumed", processes, ENGINES[engine]), f"{folder}/resumed{rank}.pt")
    # DeepSpeed's engine steps before anybody can skip anything.
    skips = 0 if engine.startswith("zero") else 1
    torch.save(guarded(f"{folder}/guarded", processes, skips, ENGINES[engine]), f"{folder}/guarded{rank}.pt")
    if engine != "fsdp2":  # no hook of a test reaches its gradients
        found = guarded(f"{folder}/spoilt", processes, skips, ENGINES[engine], spoil=True)
        torch.save(found, f"{folder}/spoilt{rank}.pt")
    leave()
