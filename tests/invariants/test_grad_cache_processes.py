"""DistillationTrainer with GradCache: accumulated micro-batches, on one process and on two, train as one batch."""

import copy
from pathlib import Path

import pytest
import torch
from grad_cache_steps import expected_step, gradients, make_batches, make_model, window_step
from miniature import ALL_LOSSES, Pairs, logs, make_clip, make_trainer
from processes import join, launch, leave
from torch.nn.parallel import DistributedDataParallel

from hf_clip_kd.losses import LOSSES

WINDOW, STEPS = 12, 3
# Rows of each micro-batch of each of two processes.
SHARES = [[5, 3], [1, 3]]


def make_run(folder, micro_batches=1, processes=1, **changes):
    """A trainer that sees 12 pairs in each of 3 steps, however they are split."""
    settings = {
        "per_device_train_batch_size": WINDOW // micro_batches // processes,
        "gradient_accumulation_steps": micro_batches,
        "max_steps": STEPS,
        "optim": "sgd",  # AdamW would magnify rounding errors of small gradients
        "learning_rate": 0.1,
        "dataset": Pairs(WINDOW * STEPS),
    }
    return make_trainer(folder, **settings | changes)


def assert_same_run(state, log, expected):
    for key in ("loss", "grad_norm", "logit_scale", *(f"loss/{name}" for name in ALL_LOSSES)):
        values = [entry[key] for entry in log if key in entry]
        assert values == pytest.approx(logs(expected, key), rel=2e-5), key
        assert len(values) == expected.state.global_step
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_micro_batches_train_as_one_batch(tmp_path):
    whole, parts = make_run(tmp_path), make_run(tmp_path, micro_batches=3)
    before = copy.deepcopy(whole.model.state_dict())
    whole.train(), parts.train()
    assert_same_run(parts.model.state_dict(), parts.state.log_history, whole)
    moved = max((before[name] - value).abs().max() for name, value in whole.model.state_dict().items())
    assert moved > 1e-2
    assert parts.teacher.calls == 3 * STEPS, "once per micro-batch"


def test_plain_accumulation_does_not(tmp_path):
    whole, parts = make_run(tmp_path), make_run(tmp_path, micro_batches=3, grad_cache=False)
    whole.train(), parts.train()
    assert logs(parts, "loss")[0] < logs(whole, "loss")[0] - 0.5, "fewer negatives"
    assert parts.teacher.calls == 3 * STEPS


def test_shorter_last_window_is_a_smaller_batch(tmp_path):
    run = make_run(
        tmp_path, micro_batches=3, max_steps=-1, num_train_epochs=1, dataset=Pairs(20), logging_steps=2, optim="sgd"
    )
    run.train()
    # The same two steps on batches of 12 and 8.
    first = make_run(tmp_path / "first", max_steps=1, dataset=Pairs(20))
    first.train()
    rest = [Pairs(20)[i] for i in range(12, 20)]
    second = make_run(
        tmp_path / "second", student=first.student, max_steps=1, dataset=rest, per_device_train_batch_size=8
    )
    second.model.load_state_dict(first.model.state_dict())
    second.train()
    for key in ("loss", *(f"loss/{name}" for name in ALL_LOSSES)):
        assert logs(run, key) == pytest.approx([(logs(first, key)[0] + logs(second, key)[0]) / 2], rel=1e-5), key
    for name, value in second.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_evaluation_takes_batches_as_they_come(tmp_path):
    options = {"eval_dataset": Pairs(8), "per_device_eval_batch_size": 4, "eval_strategy": "steps", "eval_steps": 1}
    whole, parts = make_run(tmp_path, **options), make_run(tmp_path, micro_batches=3, **options)
    whole.train(), parts.train()
    assert len(logs(parts, "eval_loss")) == STEPS
    assert logs(parts, "eval_loss") == pytest.approx(logs(whole, "eval_loss"), rel=1e-5)
    assert parts.evaluate()["eval_loss"] == pytest.approx(logs(whole, "eval_loss")[-1], rel=1e-5)


def test_resume_equals_an_undisturbed_run(tmp_path):
    student = {"attention_dropout": 0.2}
    whole = make_run(tmp_path, 3, student=make_clip(**student), save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_run(tmp_path / "resumed", 3, student=make_clip(**student))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.teacher.calls == 3
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_trains_in_bfloat16(tmp_path):
    whole, half = make_run(tmp_path), make_run(tmp_path, micro_batches=3, bf16=True)
    whole.train(), half.train()
    assert logs(half, "loss") == pytest.approx(logs(whole, "loss"), rel=2e-2)
    assert logs(half, "loss") != logs(whole, "loss")


def test_gradient_checkpointing_changes_nothing(tmp_path):
    plain = make_run(tmp_path, 3, student=make_clip(attention_dropout=0.2))
    plain.train()
    checkpointed = make_run(tmp_path, 3, student=make_clip(attention_dropout=0.2), activation_checkpointing=True)
    checkpointed.train()
    assert_same_run(checkpointed.model.state_dict(), checkpointed.state.log_history, plain)


def test_non_finite_loss_names_its_term(tmp_path):
    run = make_run(tmp_path, micro_batches=3)
    with torch.no_grad():
        run.model.losses.terms["fd"].image_proj.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at step 0: \{'fd': nan\}"):
        run.train()


def worker(rank: int, processes: int, port: int, folder: str) -> None:
    join(rank, processes, port)
    # The Trainer starts the process group.
    run = make_run(f"{folder}/run", micro_batches=3, processes=2)
    if rank == 1:  # The heads are those of another seed.
        for parameter in run.model.losses.parameters():
            torch.nn.init.normal_(parameter)
    run.train()
    results = {"state": run.model.state_dict(), "log": run.state.log_history, "calls": run.teacher.calls}
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    reduced = {id(p) for p in run.model_wrapped.parameters()}
    results["wrapped"] = type(run.model_wrapped).__name__
    results["left out"] = [n for n, p in run.model.named_parameters() if id(p) not in trained & reduced]

    sizes = [size for share in SHARES for size in share]
    batches = make_batches(sizes)[rank * len(SHARES[0]) :][: len(SHARES[rank])]
    for name in LOSSES:
        model = make_model({name: 1.0})
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        torch.manual_seed(rank)
        results[name] = window_step(wrapped, batches), gradients(model)
    torch.save(results, f"{folder}/rank{rank}.pt")
    leave()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    """Results of each of two processes."""
    folder = tmp_path_factory.mktemp("gloo")
    launch(worker, 2, folder)
    return [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_on_two_processes_have_value_and_gradients_of_one_batch(results, name):
    sizes = [size for share in SHARES for size in share]
    expected = expected_step(name, sizes, {0: 0, len(SHARES[0]): 1})
    for result in results:
        torch.testing.assert_close(result[name], expected, rtol=1e-8, atol=1e-11)


def test_two_processes_train_as_one_whatever_their_heads_were(results, tmp_path):
    whole = make_run(tmp_path)
    whole.train()
    assert logs(whole, "loss") == pytest.approx([e["loss"] for e in results[0]["log"] if "loss" in e], rel=2e-5)
    assert_same_run(results[0]["state"], results[0]["log"], whole)
    for name, value in results[0]["state"].items():
        assert torch.equal(value, results[1]["state"][name]), name
    assert [result["calls"] for result in results] == [3 * STEPS] * 2


def test_heads_and_scales_are_wrapped_and_trained(results):
    for result in results:
        assert result["wrapped"] == "DistributedDataParallel"
        assert result["left out"] == []
        assert {"logit_scale", "losses.terms.fd.image_proj.weight", "losses.terms.icl.logit_scale"} <= set(
            result["state"]
        )
