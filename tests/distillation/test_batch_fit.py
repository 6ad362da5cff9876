"""`auto_find_batch_size`: a batch that does not fit trains in pieces as it would whole, with every loss."""

import pytest
import torch
from every_loss import make_run
from miniature import BATCH, STEPS, Pairs, logs, make_args, make_clip, make_trainer
from processes import join, launch, leave
from safetensors.torch import load_file
from torch import nn

from hf_clip_kd.losses import LOSSES, requested


def make_small(student, most):
    """Limit a student to the activations of `most` images, as a small device would."""
    forward = student.vision_model.forward

    def limited(pixel_values, **options):
        if len(pixel_values) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(pixel_values, **options)

    student.vision_model.forward = limited
    return student


def marked(name):
    """Put a loss into the slow tier if one before it reads the same features."""
    alike = [requested({other: 1.0}) for other in list(LOSSES)[: list(LOSSES).index(name)]]
    return pytest.param(name, marks=[pytest.mark.slow] if requested({name: 1.0}) in alike else [])


@pytest.mark.parametrize("name", map(marked, LOSSES))
def test_pieces_train_as_the_whole(tmp_path, name):
    whole = make_run(tmp_path / "whole", [name])
    whole.train()
    run = make_run(tmp_path / "pieces", [name], make_small(make_clip(), 3), auto_find_batch_size=True)
    run.train()
    # 8, 4 and then 2: the largest divisor that fits.
    assert (run.args.per_device_train_batch_size, run.args.gradient_accumulation_steps) == (2, BATCH // 2)
    assert run.state.global_step == STEPS
    assert logs(run, "loss") == pytest.approx(logs(whole, "loss"), rel=1e-5)
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_every_phase_of_a_curriculum_must_fit(tmp_path):
    """The second teacher of a cascade may be larger: only what fits there, too, is a micro-batch."""
    run = make_trainer(
        tmp_path,
        make_clip(),
        losses={"clip": 1.0, "icl": {"weight": {0: 0, 0.5: 1.0}}},
        auto_find_batch_size=True,
    )
    ask = run.teacher.forward

    def limited(pixel_values, input_ids):
        if len(pixel_values) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return ask(pixel_values, input_ids)

    run.teacher.forward = limited
    run.train()
    assert run.args.per_device_train_batch_size == 2 and run.state.global_step == STEPS


def test_the_trial_is_no_batch_of_the_statistics(tmp_path):
    losses = {"patch": {"statistics": STEPS + 1}}
    run, plain = (make_run(tmp_path / str(on), [], losses=losses, auto_find_batch_size=on) for on in (True, False))
    run.train(), plain.train()
    found, expected = (dict(trainer.model.losses.named_buffers()) for trainer in (run, plain))
    assert found["terms.patch.statistics.0.seen"] == STEPS
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_trial_that_does_not_fit_leaves_no_trace(tmp_path):
    """The images have been encoded, with their numbers in BatchNorm, when the texts find no memory."""

    def begin(**changes):
        student = make_clip()
        student.visual_projection = nn.Sequential(student.visual_projection, nn.BatchNorm1d(12))
        return make_trainer(tmp_path, student, losses={"clip": 1.0}, **changes)

    run = begin(auto_find_batch_size=True)
    encode, sizes = run.student.get_text_features, []

    def limited(input_ids, **options):
        sizes.append(len(input_ids))
        if len(input_ids) > BATCH // 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return encode(input_ids=input_ids, **options)

    run.student.get_text_features = limited
    expected = begin(per_device_train_batch_size=BATCH // 2, gradient_accumulation_steps=2)
    run.train(), expected.train()
    assert sizes[0] == BATCH and run.args.per_device_train_batch_size == BATCH // 2
    for name, value in expected.model.named_buffers():
        assert torch.equal(run.model.get_buffer(name), value), name


def test_what_fits_stays(tmp_path, caplog):
    runs = []
    for on in (True, False):
        # Dropout shows that the trial takes no random number away from the run.
        runs.append(make_trainer(tmp_path, make_clip(attention_dropout=0.2), auto_find_batch_size=on))
        runs[-1].train()
    run, plain = runs
    assert (run.args.per_device_train_batch_size, run.args.gradient_accumulation_steps) == (BATCH, 1)
    assert logs(run, "loss") == logs(plain, "loss") and "is cut into" not in caplog.text


def test_a_resumed_run_cuts_alike_and_is_the_undisturbed_one(tmp_path):
    def begin(**changes):
        student = make_small(make_clip(attention_dropout=0.2), 5)
        options = {"auto_find_batch_size": True, "save_strategy": "steps", "save_steps": 2}
        return make_trainer(tmp_path, student, **options | changes)

    whole = begin()
    whole.train()
    whole.save_model(tmp_path / "end")
    resumed = begin()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.args.per_device_train_batch_size == 4
    for key, value in load_file(tmp_path / "end" / "model.safetensors").items():
        assert torch.equal(resumed.student.state_dict()[key], value), key


def test_refused(tmp_path):
    with pytest.raises(MemoryError, match="does not even hold a micro-batch of 1.*activation_checkpointing"):
        make_trainer(tmp_path, make_small(make_clip(), 0), auto_find_batch_size=True).train()
    with pytest.raises(ValueError, match="`grad_cache=False`.*lose its negatives.*Leave `grad_cache` out"):
        make_args(tmp_path, auto_find_batch_size=True, grad_cache=False)
    with pytest.raises(ValueError, match="`teacher_sharded=True`.*by hand"):
        make_args(tmp_path, auto_find_batch_size=True, teacher_sharded=True)
    run = make_trainer(tmp_path, auto_find_batch_size=True)
    run.is_deepspeed_enabled = True
    with pytest.raises(ValueError, match="under DeepSpeed.*by hand"):
        run._inner_training_loop(BATCH, args=run.args)


def test_out_of_memory_later_is_no_new_beginning(tmp_path):
    run = make_trainer(tmp_path, make_clip(), auto_find_batch_size=True)
    step = run.training_step

    def second_fails(*args):
        if run.state.global_step == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(*args)

    run.training_step = second_fails
    with pytest.raises(
        MemoryError, match="at step 1, although a micro-batch of 8 had fitted.*resume_from_checkpoint auto"
    ):
        run.train()


def unequal(rank, processes, port, folder):
    """Only the second process lacks memory."""
    join(rank, processes, port)
    student = make_small(make_clip(), BATCH if rank == 0 else 1)
    run = make_trainer(
        folder,
        student,
        per_device_train_batch_size=BATCH // 2,
        auto_find_batch_size=True,
        ddp_find_unused_parameters=False,
    )
    run.train()
    sizes = run.args.per_device_train_batch_size, run.args.gradient_accumulation_steps
    torch.save({"loss": logs(run, "loss"), "sizes": sizes}, f"{folder}/{rank}.pt")
    leave()


@pytest.mark.slow
def test_processes_cut_alike(tmp_path):
    launch(unequal, 2, tmp_path)
    whole = make_trainer(tmp_path / "whole", dataset=Pairs())
    whole.train()
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert result["sizes"] == (1, 4)
        assert result["loss"] == pytest.approx(logs(whole, "loss"), rel=1e-5)
