"""BaseTrainer: one class under every trainer, and a resumed run sees the very same samples and crops."""

import json
import os
from pathlib import Path

import llava_runs
import pytest
import torch
from miniature import logs, make_args, make_trainer
from processes import join, launch, leave
from tar_files import write_tars
from transformers import Trainer

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.models import load_clip

SAMPLES, BATCH, STEPS, SAVED = 24, 4, 10, 8  # six steps make an epoch: the checkpoint lies in the second

SETTINGS = {
    "losses": {"clip": 1.0},
    "per_device_train_batch_size": BATCH,
    "max_steps": STEPS,
    "save_strategy": "steps",
    "save_steps": SAVED,
    "train_sampling_strategy": "random",
}


class Seen(CLIPDataCollator):
    """Says which crops and words a batch is made of."""

    def __call__(self, rows):
        batch = super().__call__(rows)
        return batch | {"seen": batch["pixel_values"].sum((1, 2, 3)).double() + batch["input_ids"].sum(1)}


class Trace(DistillationTrainer):
    """Keeps what was trained on."""

    def model_inputs(self, inputs):
        self.trace = [*getattr(self, "trace", []), inputs["seen"].tolist()]
        return super().model_inputs(inputs)


def data(kind, folder):
    if kind == "map":
        return load_image_text("shapes", max_samples=SAMPLES)
    if not (folder / "0.tar").exists():
        write_tars(folder)
    tars = load_image_text("webdataset", data_files=str(folder / "*.tar"), streaming=True)
    if kind == "stream":
        return Stream(tars, seed=1, buffer_size=6)
    return Stream([tars, load_image_text("shapes", max_samples=5)], weights=[2, 1], seed=1, buffer_size=6)


def trainer(kind, folder, output, **changes):
    torch.manual_seed(0)
    student, processor = load_clip("test-vit")
    for module in student.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.1  # the model draws, too, and goes on drawing what it would have drawn
    return Trace(
        student,
        make_args(output, **SETTINGS | changes),
        train_dataset=data(kind, folder),
        data_collator=Seen(processor, crop_scale=(0.3, 1), flip=0.5, seed=3),
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["map", "stream", "mixture"])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(kind, num_workers, tmp_path):
    changes = {"dataloader_num_workers": num_workers, "gradient_accumulation_steps": 2 if kind == "stream" else 1}
    whole = trainer(kind, tmp_path, tmp_path / "whole", **changes)
    whole.train()
    resumed = trainer(kind, tmp_path, tmp_path / "resumed", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{SAVED}"))
    assert resumed.trace == whole.trace[-len(resumed.trace) :]
    assert len(whole.trace) - len(resumed.trace) == SAVED * changes["gradient_accumulation_steps"]
    assert logs(resumed, "loss")[-2:] == logs(whole, "loss")[-2:]
    assert logs(resumed, "epoch") == logs(whole, "epoch")
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name]), name


def test_workers_change_neither_the_samples_nor_their_crops(tmp_path):
    traces = []
    for num_workers in (0, 2):
        run = trainer("map", tmp_path, tmp_path / str(num_workers), dataloader_num_workers=num_workers)
        run.train()
        traces.append(run.trace)
    assert traces[0] == traces[1]
    assert len({value for batch in traces[0] for value in batch}) == STEPS * BATCH, "every epoch has crops of its own"


def test_a_stream_with_other_readers_is_not_resumed(tmp_path):
    trainer("stream", tmp_path, tmp_path / "whole").train()
    other = trainer("stream", tmp_path, tmp_path / "other", dataloader_num_workers=2)
    with pytest.raises(ValueError, match="'num_workers': 0.*'num_workers': 2"):
        other.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{SAVED}"))


def worker(index, processes, port, folder):
    """Run one of two processes: the first finds few samples, the second many."""
    join(index, processes, port)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    run = trainer("stream", Path(folder), Path(folder) / "out", save_strategy="no", max_steps=15)
    run.train()
    result = {"trace": run.trace, "steps": run.state.global_step, "world": run.args.world_size}
    (Path(folder) / f"{index}.json").write_text(json.dumps(result))
    leave()


def overridden(trainer):
    """Names of the Trainer's own methods that classes of ours define, each with these classes."""
    ours = type(trainer).__mro__[: type(trainer).__mro__.index(Trainer)]
    names = {name for cls in ours for name in vars(cls) if callable(getattr(Trainer, name, None))}
    return {name: [cls.__name__ for cls in ours if name in vars(cls)] for name in names - {"__init__"}}


def test_one_class_stands_between_and_overrides_each_method_once(tmp_path):
    for trainer in (make_trainer(tmp_path), llava_runs.make_trainer(tmp_path, *llava_runs.make_model())):
        assert [cls.__name__ for cls in type(trainer).__mro__[:3]] == [
            type(trainer).__name__,
            "BaseTrainer",
            "Trainer",
        ]
        assert {name: classes for name, classes in overridden(trainer).items() if len(classes) > 1} == {}


@pytest.mark.slow
def test_a_process_whose_shards_are_short_goes_on(tmp_path):
    write_tars(tmp_path, (1, 40))
    launch(worker, 2, tmp_path)
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [(result["steps"], result["world"]) for result in results] == [(15, 2)] * 2
    assert [sum(map(len, result["trace"])) for result in results] == [15 * BATCH] * 2
