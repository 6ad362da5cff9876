"""Effects of those flags of `TrainingArguments` that only the training of a vision-language model has."""

import llava_runs
import torch
import transformers
from flag_effects import shows


def make(world, **flags):
    model, processor = llava_runs.make_model()
    rows = llava_runs.make_rows(8, ())
    metrics = flags.pop("compute_metrics", None)
    run = llava_runs.make_trainer(world.folder, model, processor, dataset=rows, eval_dataset=rows, **flags)
    run.compute_metrics = metrics
    return run


def first_loss(world, **flags):
    run = make(world, max_steps=1, **flags)
    run.train()
    return llava_runs.losses(run)[0]


@shows("neftune_noise_alpha", slow=True)
def noise(world):
    assert abs(first_loss(world, neftune_noise_alpha=50.0) - first_loss(world)) > 1e-3
    # Adapters leave the language model in train mode.
    adapters = {"lora": {"r": 2}}
    assert first_loss(world, neftune_noise_alpha=50.0, **adapters) != first_loss(world, **adapters)


@shows("average_tokens_across_devices")
def tokens_of_all_processes(world):
    for on in (True, False):
        run = make(world, average_tokens_across_devices=on)
        with world.patch.context() as patch:
            patch.setattr(type(run.args), "world_size", 2)
            patch.setattr(run.accelerator, "gather", lambda count: count.repeat(2))
            batch = {"labels": torch.zeros(2, 5, dtype=torch.long)}
            count = run._get_num_items_in_batch([batch], torch.device("cpu"))
        assert count == (16 if on else 8)  # the first token of a row has nothing before it that could tell it


def evaluated(world, losses=(1.0, 3.0), **flags):
    """Evaluate on two batches whose predictions are their losses, and return what the metrics are made of."""
    seen = []

    def metrics(prediction, compute_result=None):
        seen.append((prediction, compute_result))
        return {}

    run = make(world, compute_metrics=metrics, **flags)
    given = iter(losses)

    def step(model, inputs, prediction_loss_only, ignore_keys=None):
        loss = torch.tensor(next(given))
        predictions = torch.full((len(inputs["labels"]), 1), loss.item())
        run.meters.add("eval", {"loss": loss}, len(predictions))
        run.meters.count(len(predictions))
        return (loss, None, None) if prediction_loss_only else (loss, predictions, predictions)

    run.prediction_step = step
    run.evaluate()
    return seen


@shows("prediction_loss_only", "eval_do_concat_batches", "include_for_metrics", "batch_eval_metrics", slow=True)
def metrics_of_predictions(world):
    def given(**flags):
        return evaluated(world, per_device_eval_batch_size=4, **flags)

    ((all_at_once, _),) = given()
    assert all_at_once.predictions.ravel().tolist() == [1.0] * 4 + [3.0] * 4 and all_at_once.losses is None
    assert given(prediction_loss_only=True) == []
    ((in_batches, _),) = given(eval_do_concat_batches=False)
    assert [len(batch) for batch in in_batches.predictions] == [4, 4]
    ((more, _),) = given(include_for_metrics=["loss", "inputs"])
    assert len(more.losses) == len(more.inputs) == 8
    assert [last for _, last in given(batch_eval_metrics=True)] == [False, True]


@shows("eval_accumulation_steps")
def gathering(world):
    moves = world.record(transformers.trainer.EvalLoopContainer, "to_cpu_and_numpy")
    counts = []
    for flags in ({}, {"eval_accumulation_steps": 1}):
        moves.clear()
        evaluated(world, per_device_eval_batch_size=4, **flags)
        counts.append(len(moves))
    assert counts[1] > counts[0]
