"""Every guard against its injected fault: steps are skipped or the run stops, and the message says why."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from loss_inputs import PAIRS, build, features
from miniature import ALL_LOSSES, BATCH, STEPS, Pairs, Teacher, collate, logs, make_clip, make_trainer
from processes import join, launch, leave
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Subset
from transformers import TrainerCallback, TrainerControl, TrainerState

from hf_clip_kd.distillation.model import variance
from hf_clip_kd.losses import LOSSES
from hf_clip_kd.teachers import TeacherEnsemble
from hf_clip_kd.training.alarms import Alarms

BAD_ROW = 11  # a row of the second batch


class Numbered(torch.utils.data.Dataset):
    """Pairs with their numbers; the pixels of one of them are not finite."""

    def __init__(self, bad=BAD_ROW, size=BATCH * STEPS):
        self.pairs = Pairs(size)
        if bad is not None:
            self.pairs.pixels[bad, 0, 0, 0] = float("nan")

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index] | {"sample_index": torch.tensor(index)}


def make_run(folder, dataset=None, **changes):
    # SGD has no momentum, so a skipped step leaves no trace. No dropout draws random numbers.
    settings = {"optim": "sgd", "learning_rate": 0.1, "dataset": Numbered() if dataset is None else dataset}
    return make_trainer(folder, **settings | changes)


def assert_same_weights(run, expected):
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=0, atol=0, msg=name)


class SpoilGradient(TrainerCallback):
    """One parameter gets an infinite gradient at one step, whatever the loss is."""

    def __init__(self, model, step):
        self.step, self.now = step, 0
        self.name = "student.visual_projection.weight"
        model.get_parameter(self.name).register_hook(self.spoil)

    def on_step_begin(self, args, state, control, **kwargs):
        self.now = state.global_step

    def spoil(self, gradient):
        return torch.full_like(gradient, float("inf")) if self.now == self.step else gradient


# ---- A loss that is not finite ----


def plain():
    return {}


def with_batch_norm():
    student = make_clip()
    student.visual_projection = nn.Sequential(student.visual_projection, nn.BatchNorm1d(12))
    return {"student": student}


def two_teachers():
    members = [Teacher(make_clip(24, 20, seed=seed)) for seed in (1, 2)]
    for member in members:
        member.processor = SimpleNamespace()
    return {"teacher": TeacherEnsemble(members)}


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("models", [plain, with_batch_norm, two_teachers])
def test_a_skipped_step_leaves_the_weights_alone(tmp_path, models, micro_batches, caplog):
    """Neither is there a trace in the buffers: statistics of BatchNorm, the balance of teachers."""
    size = BATCH // micro_batches
    options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": micro_batches}
    run = make_run(tmp_path, max_skipped_steps=1, **models(), **options)
    with caplog.at_level(logging.WARNING, "hf_clip_kd.training.guard"):
        run.train()
    good = [i for i in range(BATCH * STEPS) if i // BATCH != BAD_ROW // BATCH]
    expected = make_run(
        tmp_path / "expected", dataset=Subset(Numbered(bad=None), good), max_steps=STEPS - 1, **models(), **options
    )
    expected.train()
    assert run.state.global_step == STEPS
    assert_same_weights(run, expected)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not finite at step 1" in message and f"inputs that are not finite {BAD_ROW}." in message
    assert "skipped, 1 of 1" in message


def test_log_is_the_mean_of_the_steps_that_counted(tmp_path):
    run = make_run(tmp_path, max_skipped_steps=1, logging_steps=2)
    run.train()
    each = make_run(tmp_path / "each", max_skipped_steps=1)
    each.train()
    for key in ("loss", *(f"loss/{name}" for name in ALL_LOSSES)):
        first, *_ = logs(each, key)
        assert logs(run, key)[0] == pytest.approx(first, rel=1e-5), key
    assert logs(each, "loss")[1] != logs(each, "loss")[1], "nothing counted"
    assert logs(run, "skipped_steps") == [1, 1]


class BadTeacher(Teacher):
    """A teacher whose embedding of one picture is not finite."""

    def forward(self, pixel_values, input_ids):
        features = super().forward(pixel_values, input_ids)
        bad = (pixel_values == Numbered(None).pairs.pixels[BAD_ROW]).flatten(1).all(1)
        features.image_embeds[bad] = float("inf")
        return features


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_message_names_the_teacher(tmp_path, micro_batches):
    options = {"per_device_train_batch_size": BATCH // micro_batches, "gradient_accumulation_steps": micro_batches}
    run = make_run(tmp_path, Numbered(bad=None), teacher=BadTeacher(make_clip(24, 20, seed=1)), **options)
    with pytest.raises(
        FloatingPointError,
        match=rf"not finite at step 1.* The teacher's image_embeds are not finite, of samples {BAD_ROW}\.",
    ):
        run.train()


def test_the_message_names_stored_features(tmp_path):
    """Those of a cache come with the batch, as images do."""
    run = make_run(tmp_path)
    batch = collate([Numbered(bad=None)[i] for i in range(4)])
    batch["teacher_0_image_embeds"] = torch.tensor([[1.0], [float("inf")], [1.0], [1.0]])
    run.guard.begin([batch])
    run.guard.check_loss(torch.tensor(float("nan")), {})
    run.teacher = None
    told = run.guard._message([run.guard._report()])
    assert "inputs that are not finite 1. They have these inputs: teacher_0_image_embeds." in told


@pytest.mark.parametrize("name", ["logit_scale", "student.visual_projection.weight"])
def test_the_message_names_weights(tmp_path, name):
    run = make_run(tmp_path, Numbered(bad=None))
    run.model.get_parameter(name).data.view(-1)[0] = float("nan")
    with pytest.raises(FloatingPointError, match=f"not finite at step 0.*Weights that are not finite: {name}"):
        run.train()


def test_a_full_disk_does_not_hide_the_reason(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "non_finite").write_text("no folder can be here")
    with pytest.raises(FloatingPointError, match="not finite at step 1.*could not be written.*Lower"):
        run.train()


@pytest.mark.parametrize("name", LOSSES)
def test_the_message_names_the_term(tmp_path, name):
    student, teacher = (features(dims, seed) for seed, dims in enumerate(PAIRS["same width"]))
    value = build(name, PAIRS["same width"])(student.map(lambda x: x * float("nan")), teacher)
    run = make_run(tmp_path, losses={"clip": 1.0})
    run.guard.begin([collate([Numbered()[0]])])
    loss = run.guard.check_loss(value, {name: value, "other": torch.tensor(1.0)})
    assert torch.isnan(loss) and run.guard._found()["bad"].keys() == {name}


def test_stops_with_the_batch_saved(tmp_path):
    run = make_run(tmp_path, max_skipped_steps=0)
    with pytest.raises(FloatingPointError, match=rf"at step 1.*Rank 0: .* {BAD_ROW}\. They have.* Allowed are 0"):
        run.train()
    saved = load_file(tmp_path / "non_finite" / "step_1_rank_0.safetensors")
    batch = collate([Numbered()[i] for i in range(BATCH, 2 * BATCH)])
    assert saved.keys() == {f"0.{name}" for name in batch}
    for name, value in batch.items():
        torch.testing.assert_close(saved[f"0.{name}"], value, rtol=0, atol=0, equal_nan=True)


def test_stops_at_the_first_step_above_the_count(tmp_path):
    dataset = Numbered()
    dataset.pairs.pixels[:] = float("nan")
    run = make_run(tmp_path, dataset=dataset, max_skipped_steps=2)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="at step 2.* Allowed are 2 such steps"):
        run.train()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_resumed_run_has_no_more_skips_than_another(tmp_path):
    dataset = Numbered()
    dataset.pairs.pixels[3 * BATCH] = float("nan")
    options = {"dataset": dataset, "max_skipped_steps": 1, "save_strategy": "steps", "save_steps": 2}
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        run = make_run(tmp_path, **options)
        with pytest.raises(FloatingPointError, match="not finite at step 3.* Allowed are 1 such"):
            run.train(resume_from_checkpoint=checkpoint)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_optimizers_leave_weights_without_gradient_alone(tmp_path, optim):
    """Neither momentum nor weight decay moves them."""
    run = make_run(tmp_path, optim=optim, max_skipped_steps=1, max_steps=2)
    once = make_run(tmp_path / "once", optim=optim, max_steps=1)
    run.train(), once.train()
    assert_same_weights(run, once)


def test_nothing_changes_without_faults(tmp_path):
    plain, guarded = (
        make_run(tmp_path, Numbered(bad=None)),
        make_run(tmp_path, Numbered(bad=None), max_skipped_steps=9),
    )
    plain.train(), guarded.train()
    assert_same_weights(guarded, plain)
    assert not (tmp_path / "non_finite").exists() and not logs(guarded, "skipped_steps")


# ---- A gradient that is not finite ----


def test_a_gradient_is_named_by_its_parameter_and_skipped(tmp_path, caplog):
    run = make_run(tmp_path, Numbered(bad=None), max_skipped_steps=1)
    spoiler = SpoilGradient(run.model, step=1)
    run.add_callback(spoiler)
    with caplog.at_level(logging.WARNING, "hf_clip_kd.training.guard"):
        run.train()
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"The gradient is not finite at step 1: of {spoiler.name}." in message
    assert "Rank 0: samples 8, 9, 10, 11, 12, 13, 14, 15." in message
    assert torch.isfinite(run.model.get_parameter(spoiler.name)).all()
    again = make_run(tmp_path, Numbered(bad=None))
    again.add_callback(SpoilGradient(again.model, step=0))
    with pytest.raises(FloatingPointError, match="gradient is not finite at step 0"):
        again.train()


def test_overflow_of_the_loss_scale_is_no_fault(tmp_path):
    run = make_run(tmp_path, Numbered(bad=None))
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    run.add_callback(SpoilGradient(run.model, step=1))
    run.train()
    assert logs(run, "loss_scale") == [2.0**16, 2.0**15, 2.0**15, 2.0**15]
    assert not logs(run, "skipped_steps")


@pytest.mark.parametrize("models", [with_batch_norm, two_teachers])
def test_a_bad_loss_counts_under_the_scaler_too(tmp_path, models):
    run = make_run(tmp_path, max_skipped_steps=1, **models())
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    run.train()
    assert logs(run, "skipped_steps") == [1, 1, 1]
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


# ---- Two processes ----


def worker(rank: int, processes: int, port: int, folder: str) -> None:
    join(rank, processes, port)
    run = make_run(f"{folder}/run", per_device_train_batch_size=BATCH // 2, max_skipped_steps=1)
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("hf_clip_kd.training.guard").addHandler(handler)
    run.train()
    # A loss that only one process finds bad must stop both.
    stopped = make_run(f"{folder}/stopped", Numbered(bad=None), per_device_train_batch_size=BATCH // 2)
    compute_loss = stopped.compute_loss
    if rank == 1:
        stopped.compute_loss = lambda *args, **kwargs: stopped.guard.check_loss(
            compute_loss(*args, **kwargs) * float("inf"), {"mine": torch.tensor(float("inf"))}
        )
    try:
        stopped.train()
        error = ""
    except FloatingPointError as caught:
        error = str(caught)
    torch.save(
        {"state": run.model.state_dict(), "messages": messages, "error": error, "step": run.state.global_step},
        f"{folder}/rank{rank}.pt",
    )
    leave()


@pytest.mark.slow
def test_processes_skip_and_stop_together(tmp_path):
    launch(worker, 2, tmp_path)
    results = [torch.load(Path(tmp_path) / f"rank{rank}.pt", weights_only=False) for rank in range(2)]
    single = make_run(tmp_path / "single", max_skipped_steps=1)
    single.train()
    for name, value in single.model.state_dict().items():
        assert torch.equal(results[0]["state"][name], results[1]["state"][name]), name
        torch.testing.assert_close(results[0]["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)
    for result in results:
        assert result["step"] == STEPS
        (message,) = result["messages"]
        # Both see the loss of the whole batch; only one has the row that spoils it.
        owner = 0 if BAD_ROW - BATCH < BATCH // 2 else 1
        assert f"Rank {owner}: samples with inputs that are not finite {BAD_ROW}." in message
        assert "'mine': inf" in result["error"] and "Rank 1" in result["error"] and "Rank 0" not in result["error"]
    assert {path.name for path in (tmp_path / "stopped" / "non_finite").iterdir()} == {
        "step_0_rank_0.safetensors",
        "step_0_rank_1.safetensors",
    }


# ---- Alarms ----


def test_variance_is_that_of_directions():
    x = torch.randn(6, 5)
    units = x.double() / x.double().norm(dim=1, keepdim=True)
    cosines = units @ units.T
    assert variance(x).item() == pytest.approx(1 - cosines.mean().item(), rel=1e-5)
    assert variance(torch.ones(6, 5)).item() == pytest.approx(0, abs=1e-6)
    assert variance(torch.zeros(6, 5)).item() == 0


def test_collapse_rings(tmp_path, caplog):
    student = make_clip()
    with torch.no_grad():  # every image looks like the class token
        student.vision_model.embeddings.patch_embedding.weight.zero_()
        student.vision_model.embeddings.position_embedding.weight.zero_()
        student.vision_model.post_layernorm.weight.mul_(1e-9)
        student.vision_model.post_layernorm.bias.fill_(1.0)
    run = make_run(tmp_path, Numbered(bad=None), student=student, learning_rate=0.0)
    with caplog.at_level(logging.WARNING, "hf_clip_kd.training.alarms"):
        run.train()
    assert len(logs(run, "embedding_variance/text")) == STEPS
    assert max(logs(run, "embedding_variance/image")) < 1e-3 < min(logs(run, "embedding_variance/text"))
    (message,) = [record.getMessage() for record in caplog.records if record.name.endswith("alarms")]
    assert "ALARM at step 1: the student's image embeddings collapse" in message


def test_logit_scale_rings_at_both_ends(tmp_path, caplog):
    run = make_run(tmp_path, Numbered(bad=None), learning_rate=0.0, max_logit_scale=10.0)
    with caplog.at_level(logging.WARNING, "hf_clip_kd.training.alarms"):
        run.train()
    assert "the logit scale is at its bound 10" in caplog.text
    with torch.no_grad():
        run.model.logit_scale.fill_(-3.0)
    run.model.clamp_scales_()
    with caplog.at_level(logging.WARNING, "hf_clip_kd.training.alarms"):
        run.train()
    assert "the logit scale fell to 0.0" in caplog.text


def test_alarms_ring_once_until_all_is_well(caplog):
    alarms, state = Alarms(), TrainerState(is_world_process_zero=True)
    ringing = []
    for scale in (64.0, 0.5, 0.25, 2.0, 0.5):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hf_clip_kd.training.alarms"):
            alarms.on_log(None, state, TrainerControl(), {"loss": 1.0, "loss_scale": scale})
            alarms.on_log(None, state, TrainerControl(), {"eval_loss": 1.0})
        ringing.append("loss scale fell" in caplog.text)
    assert ringing == [False, True, False, False, True]
