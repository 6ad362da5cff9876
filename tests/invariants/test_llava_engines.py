"""Several processes train a LLaVA like one, under every engine, also if one has no image. They share questions."""

import json
from pathlib import Path

import pytest
import torch
from engine_runs import CRASHES, ENGINES, LAUNCH_SECONDS, engine_cases, forget_engine, prepare, weights
from llava_runs import losses, make_model, make_rows, make_teacher, make_trainer
from processes import join, launch, leave
from safetensors.torch import load_file

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.vlm import FeatureScale, measure_features

# The first process sees images in both steps, and the second none.
TEXT_ONLY = (4, 5, 6, 7, 12, 13, 14, 15)


STAGES = {
    "pretrain": {"stage": "pretrain", "learning_rate": 0.5},
    # The average of weights is in their place at the end.
    "finetune": {"tune_vision_tower": True, "ema_decay": 0.5},
    "lora": {"lora": {"r": 4, "init_lora_weights": False}},
    "taught": {"kl_weight": 0.5, "relation_weight": 3.0, "relation_temperature": 0.02, "reuse_projector": True},
}


def make_run(folder, batch_size, **settings):
    model, processor = make_model()
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": batch_size,
        "group_by_modality_length": False,
        "train_sampling_strategy": "sequential",
        "optim": "adamw_torch",
        "adam_epsilon": 1.0,  # a small one would magnify rounding errors of small gradients
        "learning_rate": 0.1,
        "ddp_find_unused_parameters": False,  # a parameter without gradient is an error, as it is a hang under ZeRO-3
    } | settings
    scale = FeatureScale(model, measure_features(model, torch.randn(4, 3, 32, 32)).power_of_two_scale())
    teacher = make_teacher() if settings.get("reuse_projector") else None
    rows = make_rows(16, TEXT_ONLY)
    return make_trainer(folder, model, processor, scale, dataset=rows, teacher=teacher, **settings)


def evaluate(model, processor, folder):
    """Twice; the second time the answers are those that the main process has on disk."""
    evaluator = build_vqa_evaluator({"shapes": {"max_samples": 11, "batch_size": 3}}, load_shapes)
    model.model.language_model.apply(restless)
    for _ in range(2):
        numbers = evaluator(model, processor, folder=folder, weights="of this test")
    return numbers, evaluator.results["shapes"]["scores"]


def restless(module):
    """Answers of untrained weights are all the same; with larger ones they differ from question to question."""
    if isinstance(module, torch.nn.Linear):
        module.weight.data.mul_(4)


def worker(rank, processes, port, folder):
    join(rank, processes, port)
    run = make_run(f"{folder}/run", batch_size=4)
    run.train()
    torch.save({"state": run.model.state_dict(), "losses": losses(run)}, f"{folder}/{rank}.pt")
    numbers, scores = evaluate(run.model, run.processing_class, f"{folder}/results" if rank == 0 else None)
    Path(f"{folder}/{rank}.json").write_text(json.dumps([numbers, scores]))
    leave()


def packed_worker(rank, processes, port, folder):
    join(rank, processes, port)
    run = make_run(f"{folder}/run", batch_size=4, packing=True, max_length=100)
    rows = len(run.data_collator(run.train_dataset.select(range(4)))["labels"])
    run.train()
    torch.save({"state": run.model.state_dict(), "losses": losses(run), "rows": rows}, f"{folder}/{rank}.pt")
    leave()


def train_stages(rank, processes, port, folder, engine):
    """Each stage, whole and from its middle."""
    join(rank, processes, port)
    prepare(engine)
    for name, settings in STAGES.items():
        for checkpoint in (None, f"{folder}/{name}/checkpoint-1"):
            options = settings | ENGINES[engine] | {"save_strategy": "steps", "save_steps": 1}
            run = make_run(f"{folder}/{name}", 4, **options)
            run.train(resume_from_checkpoint=checkpoint)
            found = {"losses": losses(run), "wrapped": type(run.model_wrapped).__name__, "state": weights(run.model)}
            torch.save(found, f"{folder}/{name}-{'resumed' if checkpoint else 'whole'}{rank}.pt")
            run.save_model(f"{folder}/{name}/saved")
            forget_engine()
    leave()


@pytest.mark.slow
@pytest.mark.parametrize("case", engine_cases(2))
def test_every_stage_under_every_engine(case, tmp_path):
    engine, processes = case
    launch(train_stages, processes, tmp_path, engine, seconds=LAUNCH_SECONDS, crashes=CRASHES.get(engine, 0))
    for name, settings in STAGES.items():
        single = make_run(tmp_path / "single" / name, batch_size=8, **settings)
        single.train()
        single.save_model(tmp_path / "single" / name)
        for rank in range(processes):
            whole, resumed = (
                torch.load(tmp_path / f"{name}-{which}{rank}.pt", weights_only=True) for which in ("whole", "resumed")
            )
            assert whole["losses"] == pytest.approx(losses(single), rel=1e-5)
            assert resumed["losses"][-1] == whole["losses"][-1]
            assert all(torch.equal(value, whole["state"][key]) for key, value in resumed["state"].items())
        assert ("DeepSpeed" in whole["wrapped"], "FSDP" in whole["wrapped"]) == ("zero" in engine, "fsdp" in engine)
        saved, expected = (weights_in(folder) for folder in (tmp_path / name / "saved", tmp_path / "single" / name))
        assert not set(expected) - set(saved)
        assert not [name for name in set(saved) - set(expected) if not name.endswith("lm_head.weight")], "tied weights"
        for key, value in expected.items():
            torch.testing.assert_close(saved[key], value, rtol=1e-4, atol=1e-5, msg=f"{name} {key}")


def weights_in(folder):
    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


def test_packed_rows_on_two_processes_one_of_them_without_images(tmp_path):
    launch(packed_worker, 2, tmp_path)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    single = make_run(tmp_path / "single", batch_size=8)
    single.train()
    assert results[0]["losses"] == pytest.approx(losses(single), rel=1e-5)
    for result in results:
        assert 1 < result["rows"] < 4
        for name, value in single.model.state_dict().items():
            torch.testing.assert_close(result["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_batch_without_images_on_one_process(tmp_path):
    launch(worker, 2, tmp_path)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    single = make_run(tmp_path / "single", batch_size=8)
    before = {name: value.clone() for name, value in single.model.state_dict().items()}
    single.train()
    assert results[0]["losses"] == pytest.approx(losses(single), rel=1e-5)
    for name, value in single.model.state_dict().items():
        for result in results:
            torch.testing.assert_close(result["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)
    moved = {name for name, value in single.model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("projector" in name for name in moved) and any("language_model" in name for name in moved)

    expected = evaluate(single.model, single.processing_class, tmp_path / "single_results")
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [expected[0], expected[1]]
    (ours,), (alone,) = ((tmp_path / name / "samples").glob("*.jsonl") for name in ("results", "single_results"))
    ours, alone = ([json.loads(line) for line in path.read_text().splitlines()] for path in (ours, alone))
    # Two processes make other batches, so the bits differ in their last digits. The answers do not.
    assert [row.pop("bits") for row in ours] == pytest.approx([row.pop("bits") for row in alone], rel=1e-5)
    assert ours == alone
    assert len({row["answer"] for row in ours}) > 2
