"""Each switch that makes training faster, with every loss, against the plain run."""

import pytest
import torch
from every_loss import make_run
from miniature import BATCH, STEPS, Pairs, logs, make_args, make_clip, make_trainer
from safetensors.torch import load_file

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.models import load_clip
from hf_clip_kd.teachers.clip import CLIPTeacher

# All losses at once: the log has the value of each, and each moves the weights that all read.
SPLITS = {
    "one batch": {},
    "grad_cache": {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2},
}
every_split = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)


# Each loss also trains by itself, where nothing can hide behind the others. The fast tests keep the sum.
OBJECTIVES = {"all": list(LOSSES)} | {name: [name] for name in LOSSES}


def objectives(losses):
    """Parametrize a test with those of the objectives that are left with `losses` only."""
    kept = {key: [name for name in names if name in losses] for key, names in OBJECTIVES.items()}
    return pytest.mark.parametrize(
        "objective",
        [
            pytest.param(names, id=key, marks=[] if key == "all" else [pytest.mark.slow])
            for key, names in kept.items()
            if names
        ],
    )


every_objective = objectives(LOSSES)


def trained(folder, objective, student=None, **changes):
    run = make_run(folder, objective, student, **changes)
    run.train()
    assert len(logs(run, "loss")) == STEPS
    return run


def assert_same_run(run, plain, tolerance):
    for key in ("loss", "grad_norm", *(key for key in plain.state.log_history[0] if key.startswith("loss/"))):
        assert logs(run, key) == pytest.approx(logs(plain, key), rel=tolerance, abs=tolerance), key
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


class Doubles(Pairs):
    """Pairs in float64, where another order of sums does not show."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return row | {"pixel_values": row["pixel_values"].double()}


@pytest.mark.slow
@every_split
@every_objective
def test_compiled_student_and_teacher(tmp_path, objective, split):
    # This backend makes the graphs and their gradients, and spares the minutes that machine code takes.
    # Weights that a loss does not reach have a gradient of 0 in a compiled model, and else none. Weight decay sees the
    # difference.
    def run(**changes):
        finished = trained(
            tmp_path,
            objective,
            make_clip().double(),
            dataset=Doubles(),
            dtype=torch.float64,
            weight_decay=0.0,
            **split,
            **changes,
        )
        assert finished.model.state_dict()["student.vision_model.post_layernorm.weight"].dtype == torch.float64
        return finished

    plain = run()
    torch._dynamo.reset()
    # The teacher does not know the losses.
    compiled = run(torch_compile_backend="aot_eager", compile_teacher=len(objective) > 1)
    assert type(compiled.model_wrapped).__name__ == "OptimizedModule"
    assert_same_run(compiled, plain, 1e-6)


@every_split
@every_objective
def test_bfloat16(tmp_path, objective, split):
    plain, run = (trained(tmp_path, objective, learning_rate=1e-3, bf16=bf16, **split) for bf16 in (False, True))
    for name in objective:
        assert logs(run, f"loss/{name}") == pytest.approx(logs(plain, f"loss/{name}"), rel=5e-2, abs=5e-2), name
    assert logs(run, "loss") != logs(plain, "loss")
    assert all(value.dtype != torch.bfloat16 for value in run.model.state_dict().values())


@every_split
@every_objective
def test_activation_checkpointing(tmp_path, objective, split):
    plain, run = (
        trained(tmp_path, objective, make_clip(attention_dropout=0.2), activation_checkpointing=on, **split)
        for on in (False, True)
    )
    assert_same_run(run, plain, 1e-6)


@every_objective
def test_fused_optimizer(tmp_path, objective):
    options = {"learning_rate": 1e-3, "weight_decay": 0.1}
    plain, run = (
        trained(tmp_path, objective, optim=optim, **options) for optim in ("adamw_torch", "adamw_torch_fused")
    )
    assert_same_run(run, plain, 1e-4)


@every_objective
def test_attention_in_one_kernel(tmp_path, objective):
    runs = []
    for attention in ("eager", "sdpa"):
        student = make_clip()
        student.set_attn_implementation(attention)
        runs.append(trained(tmp_path, objective, student, learning_rate=1e-3))
    assert_same_run(*runs, 1e-4)


# ---- fp16 ----


def test_float16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`fp16=True` with `use_cpu=True`.*Pass `--bf16 true`"):
        make_args(tmp_path, fp16=True)


# ---- Channels last ----


class LargerPairs(Pairs):
    """Pairs as large as the smallest convnet needs."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return row | {"pixel_values": row["pixel_values"].repeat(1, 4, 4)}


# `mfd` hides patches, and convnets have none.
@objectives([name for name in LOSSES if name != "mfd"])
def test_channels_last(tmp_path, objective):
    runs = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        student, _ = load_clip("test-resnet")
        run = make_run(
            tmp_path / str(channels_last),
            objective,
            student,
            dataset=LargerPairs(),
            learning_rate=1e-3,
            channels_last=channels_last,
        )
        run.train()
        runs.append(run)
    plain, run = runs
    kernels = [p for p in run.student.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    for key in ("loss", *(f"loss/{name}" for name in objective)):
        assert logs(run, key) == pytest.approx(logs(plain, key), rel=1e-4, abs=1e-4), key
    run.save_model()
    saved = load_file(tmp_path / "True" / "model.safetensors")
    for name, value in saved.items():
        assert torch.equal(value, run.student.state_dict()[name]), name


def test_channels_last_reaches_a_teacher_convnet(tmp_path):
    losses = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        (student, _), (model, processor) = load_clip("test-resnet"), load_clip("test-resnet")
        teacher, seen = CLIPTeacher(model, processor=processor), []
        kernel = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
        kernel.register_forward_pre_hook(lambda module, args, seen=seen: seen.append((module.weight, args[0])))
        settings = {"losses": {"clip": 1, "fd": 4}, "learning_rate": 1e-3, "channels_last": channels_last}
        run = make_trainer(tmp_path, student, teacher, LargerPairs(), **settings)
        run.train()
        assert len(seen) == STEPS
        orders = {x.is_contiguous(memory_format=torch.channels_last) for pair in seen for x in pair}
        assert orders == {channels_last}
        losses.append(logs(run, "loss"))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
