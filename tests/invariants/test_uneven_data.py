"""Uneven data: no process waits forever for another, and all processes train in each counted step."""

import pytest
import torch
from miniature import Pairs, Teacher, make_args, make_clip
from processes import join, launch, leave

from hf_clip_kd.distillation.trainer import DistillationTrainer

SIZE, BATCH = 29, 4


class Rows(torch.utils.data.IterableDataset):
    """`Pairs`, which end, and of which accelerate is not told how many there are."""

    def __iter__(self):
        pairs = Pairs(SIZE)
        return ({**pairs[index], "index": index} for index in range(SIZE))


class Numbered(Pairs):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "index": index}


class Counts(DistillationTrainer):
    """Notes which rows it trained on, step by step."""

    def _model_inputs(self, inputs):
        self.seen.append(inputs.pop("index").tolist())
        return super()._model_inputs(inputs)


def number(rows):
    return {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}


# Data set and options.
CASES = {
    "map": (Numbered, {"num_train_epochs": 2}),
    "map, accumulated": (Numbered, {"num_train_epochs": 2, "gradient_accumulation_steps": 2}),
    "dispatched": (Rows, {"max_steps": 6, "accelerator_config": {"dispatch_batches": True}}),
    "each its own reader": (Rows, {"max_steps": 6, "accelerator_config": {"dispatch_batches": False}}),
}


def train(rank, processes, port, folder):
    join(rank, processes, port)
    found = {}
    for name, (dataset, options) in CASES.items():
        args = make_args(f"{folder}/{name}", **{"per_device_train_batch_size": BATCH, "max_steps": -1} | options)
        data = dataset(SIZE) if dataset is Numbered else dataset()
        run = Counts(make_clip(), args, Teacher(make_clip(24, 20, seed=1)), data, data_collator=number)
        run.seen = []
        run.train()
        losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
        found[name] = {"seen": run.seen, "steps": run.state.global_step, "losses": losses}
    torch.save(found, f"{folder}/{rank}.pt")
    leave()


@pytest.fixture(scope="module", params=[2, 3], ids=["2processes", "3processes"])
def found(request, tmp_path_factory):
    folder = launch(train, request.param, tmp_path_factory.mktemp("uneven"))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_all_processes_take_the_same_steps(found, name):
    assert len({(process[name]["steps"], len(process[name]["seen"])) for process in found}) == 1
    assert len({tuple(process[name]["losses"]) for process in found}) == 1
    assert found[0][name]["steps"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["map", "dispatched"])
def test_no_row_is_seen_twice_in_an_epoch(found, name):
    epochs = CASES[name][1].get("num_train_epochs")
    steps = len(found[0][name]["seen"]) // (epochs or 2)
    for epoch in range(epochs or 1):
        window = slice(epoch * steps, (epoch + 1) * steps)
        rows = [row for process in found for batch in process[name]["seen"][window] for row in batch]
        if name != "dispatched":
            assert len(rows) == len(set(rows))
        assert len(set(rows)) >= SIZE - len(found) * BATCH
