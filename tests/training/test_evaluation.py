"""Evaluations: every row once with its weight, and every number at once, for any mix of data sets and evaluators."""

import json
from pathlib import Path

import llava_runs
import pytest
import torch
from miniature import Pairs, best_of, collate, logs, make_trainer
from processes import join, launch, leave
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.data import IterableDataset
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_clip_kd.data import Stream, load_image_text

EVERY_STEP = {"eval_strategy": "steps", "eval_steps": 1}


class Sees(TrainerCallback):
    """Keep what callbacks hear of each evaluation."""

    def __init__(self):
        self.metrics = []

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.metrics.append(dict(metrics))


class Rows(IterableDataset):
    def __init__(self, size):
        self.pairs = Pairs(size)

    def __iter__(self):
        return (self.pairs[i] for i in range(len(self.pairs)))


def evaluating(folder, dataset, **changes):
    losses = changes.pop("losses", {"clip": 1.0, "row_mean.RowMean": 1.0})
    return make_trainer(folder, teacher=False, losses=losses, eval_dataset=dataset, **changes)


@pytest.mark.parametrize(("losses", "said"), [({"clip": 1.0}, True), ({"row_mean.RowMean": 1.0}, False)])
def test_one_row_has_no_negatives(losses, said, tmp_path, caplog):
    evaluating(tmp_path, Pairs(1), losses=losses).evaluate()
    assert ("An evaluation of one row has no negatives" in caplog.text) == said


def embeds(trainer, size):
    batch = collate([Pairs(size)[i] for i in range(size)])
    with torch.no_grad():
        output = trainer.student.eval()(**batch)
    return output.image_embeds, output.text_embeds


@pytest.mark.parametrize("size", [1, 5, 9, 15, 20])
@pytest.mark.parametrize("kind", [Pairs, Rows])
def test_each_row_counts_once(size, kind, tmp_path):
    trainer = evaluating(tmp_path, kind(size), per_device_eval_batch_size=8)
    metrics = trainer.evaluate()
    image, text = embeds(trainer, size)
    row_mean = (1 - cosine_similarity(image, text)).mean().item()
    assert metrics["eval_loss/row_mean.RowMean"] == pytest.approx(row_mean, rel=1e-5)
    assert metrics["eval_samples"] == size
    total = metrics["eval_loss/clip"] + row_mean
    assert metrics["eval_loss"] == pytest.approx(total, rel=1e-5)


def test_a_row_is_compared_with_others_also_in_the_last_batch(tmp_path):
    trainer = evaluating(tmp_path, Pairs(9), per_device_eval_batch_size=8, losses={"clip": 1.0})
    image, text = embeds(trainer, 9)
    logits = trainer.student.logit_scale.exp() * image @ text.T
    target = torch.arange(9)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_prediction_reads_all_rows_with_the_collator_of_evaluations(tmp_path):
    trainer, seen = evaluating(tmp_path, None, per_device_eval_batch_size=8), []
    trainer.eval_data_collator = lambda rows: seen.extend(rows) or collate(rows)
    metrics = trainer.predict(Pairs(9)).metrics
    assert metrics["test_samples"] == len(seen) == 9 and "test_loss/clip" in metrics


MIXES = {
    "evaluator": (None, {"eval_acc1"}),
    "data set": (Pairs(5), {"eval_loss", "eval_loss/clip", "eval_samples"}),
    "stream": (Rows(5), {"eval_loss", "eval_samples"}),
    "data sets": ({"a": Pairs(5), "b": Rows(9)}, {"eval_a_loss", "eval_b_loss", "eval_b_loss/clip", "eval_a_samples"}),
}


@pytest.mark.parametrize(
    ("mix", "scored"), [(mix, scored) for mix in MIXES for scored in (True, False) if scored or mix != "evaluator"]
)
def test_callbacks_hear_once_of_everything(mix, scored, tmp_path):
    dataset, expected = MIXES[mix]
    sees, calls = Sees(), []
    evaluator = (lambda model, processor: calls.append(model) or {"acc1": 0.5}) if scored else None
    trainer = evaluating(
        tmp_path, dataset, evaluator=evaluator, callbacks=[sees], max_steps=1, losses={"clip": 1.0}, **EVERY_STEP
    )
    trainer.train()
    (heard,) = sees.metrics
    assert expected | ({"eval_acc1"} if scored else set()) <= set(heard)
    assert len(calls) == scored
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert set(heard) <= logged


@pytest.mark.parametrize("dataset", [None, Pairs(8), {"a": Pairs(8), "b": Pairs(8)}], ids=["none", "one", "two"])
def test_early_stopping_sees_the_evaluator(dataset, tmp_path):
    trainer = make_trainer(
        tmp_path,
        eval_dataset=dataset,
        callbacks=[EarlyStoppingCallback(1)],
        **best_of(0.9, 0.5, 0.4, 0.3),
    )
    trainer.train()
    assert trainer.state.global_step == 2 and trainer.state.best_metric == 0.9


@pytest.mark.parametrize("metric", ["acc1", "a_loss", "eval_b_loss/clip"])
def test_rates_fall_and_the_best_is_kept_by_any_metric(metric, tmp_path):
    trainer = evaluating(
        tmp_path,
        {"a": Pairs(5), "b": Rows(9)},
        evaluator=lambda model, processor: {"acc1": 0.5},
        losses={"clip": 1.0},
        **EVERY_STEP,
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "mode": "max" if metric == "acc1" else "min", "threshold": 10.0},
        save_strategy="best",
        metric_for_best_model=metric,
        greater_is_better=metric == "acc1",
    )
    trainer.train()
    assert logs(trainer, "learning_rate")[-1] < logs(trainer, "learning_rate")[0]
    assert trainer.state.best_metric is not None and list(tmp_path.glob("checkpoint-*"))


def test_another_data_set_is_not_the_own_one(tmp_path):
    trainer = evaluating(
        tmp_path, {"a": Pairs(5)}, dataloader_num_workers=1, dataloader_persistent_workers=True, losses={"clip": 1.0}
    )
    assert trainer.evaluate()["eval_a_samples"] == 5
    assert trainer.evaluate(Pairs(9))["eval_samples"] == 9
    assert trainer.evaluate("a", metric_key_prefix="final")["final_samples"] == 5


REFUSED = {
    "no rows": ({"eval_dataset": []}, "has 0 rows"),
    "no rows by name": ({"eval_dataset": {"a": []}}, r"`eval_dataset\['a'\]` has 0 rows"),
    "a loss of no data set": (
        {"evaluator": lambda *_: {"acc1": 0.5}, "metric_for_best_model": "loss", **EVERY_STEP},
        "no evaluation gives an `eval_loss`",
    ),
    "a loss of several": (
        {"eval_dataset": {"a": Pairs(8)}, "metric_for_best_model": "loss", **EVERY_STEP},
        "metric_for_best_model='eval_a_loss'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_evaluated_is_refused_at_construction(what, tmp_path):
    changes, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, teacher=False, losses={"clip": 1.0}, **changes)


def test_rows_without_end_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a Stream, whose rows have no end"):
        evaluating(tmp_path, Stream(load_image_text("shapes", max_samples=4)))


def test_a_stream_without_rows(tmp_path):
    with pytest.raises(ValueError, match="read no row"):
        evaluating(tmp_path, Rows(0)).evaluate()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_llava_counts_its_tokens_once(batch_size, tmp_path):
    rows = llava_runs.make_rows(5, text_only=(3,))
    trainer = llava_runs.make_trainer(
        tmp_path, *llava_runs.make_model(), eval_dataset=rows, per_device_eval_batch_size=batch_size
    )
    metrics = trainer.evaluate()
    losses = []
    for row in rows:
        batch = trainer.data_collator([row])
        with torch.no_grad():
            logits = trainer.model.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits
        losses.append(cross_entropy(logits[0, :-1], batch["labels"][0, 1:], reduction="none", ignore_index=-100))
        losses[-1] = losses[-1][batch["labels"][0, 1:] != -100]
    assert metrics["eval_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)
    assert metrics["eval_samples"] == 5


PROCESSES, SIZE = 3, 4


def worker(rank, processes, port, folder):
    """Evaluate a student and a LLaVA, and keep the rows that this process saw."""
    join(rank, processes, port)
    results = {}
    for name, dataset in (("table", Pairs(17)), ("stream", Rows(17)), ("smaller", Pairs(4))):
        trainer, seen = evaluating(f"{folder}/{name}", dataset, per_device_eval_batch_size=SIZE), []
        trainer.eval_data_collator = lambda rows, seen=seen: seen.extend(rows) or collate(rows)
        metrics = trainer.evaluate()
        results[name] = {"metrics": metrics, "seen": [row["pixel_values"].sum().item() for row in seen]}
    trainer = llava_runs.make_trainer(
        f"{folder}/vlm",
        *llava_runs.make_model(),
        eval_dataset=llava_runs.make_rows(7),
        per_device_eval_batch_size=2,
        compute_metrics=lambda found: {"rows": len(found.label_ids), "first": float(found.label_ids[:, -1].sum())},
    )
    results["vlm"] = {"metrics": trainer.evaluate(), "seen": []}
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    leave()


@pytest.mark.slow
def test_processes_share_the_rows_and_agree_with_one(tmp_path):
    launch(worker, PROCESSES, tmp_path)
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    for name, size in (("table", 17), ("stream", 17), ("smaller", 4)):
        alone = evaluating(tmp_path / "alone", Pairs(size), per_device_eval_batch_size=SIZE * PROCESSES).evaluate()
        for result in results:
            found = result[name]["metrics"]
            assert found["eval_samples"] == size
            for metric in ("eval_loss", "eval_loss/clip", "eval_loss/row_mean.RowMean"):
                assert found[metric] == pytest.approx(alone[metric], rel=1e-5), (name, metric)
        seen = [value for result in results for value in result[name]["seen"]]
        assert sorted(seen) == pytest.approx(sorted(Pairs(size).pixels.sum((1, 2, 3)).tolist())), name
    vlm = llava_runs.make_trainer(tmp_path, *llava_runs.make_model(), eval_dataset=llava_runs.make_rows(7))
    alone = vlm.evaluate()
    for result in results:
        found = result["vlm"]["metrics"]
        assert found["eval_loss"] == pytest.approx(alone["eval_loss"], rel=1e-4)
        assert found["eval_samples"] == found["eval_rows"] == 7
