"""Switches that need a GPU, with every loss: half precision, machine code, flash attention and a full memory.

python -m pytest -m '' tests/gpu/test_switches_on_gpu.py
"""

from contextlib import nullcontext

import pytest
import torch
from every_loss import make_run
from miniature import STEPS, logs, make_clip, make_trainer
from torch.nn.attention import SDPBackend, sdpa_kernel

from hf_clip_kd.losses import LOSSES

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.fixture(autouse=True)
def exact():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def trained(folder, name, student=None, **changes):
    run = make_run(folder, [name], student, use_cpu=False, learning_rate=1e-3, **changes)
    run.train()
    assert len(logs(run, "loss")) == STEPS
    return run


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_half_precision(tmp_path, name, half):
    plain, run = trained(tmp_path, name), trained(tmp_path, name, **{half: True})
    tolerance = {"bf16": 5e-2, "fp16": 1e-2}[half]
    assert logs(run, "loss") == pytest.approx(logs(plain, "loss"), rel=tolerance, abs=tolerance)
    assert logs(run, "loss") != logs(plain, "loss")
    assert ("loss_scale" in run.state.log_history[0]) == (half == "fp16")


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_to_machine_code(tmp_path, name):
    plain = trained(tmp_path, name, weight_decay=0.0)
    torch._dynamo.reset()
    run = trained(tmp_path, name, weight_decay=0.0, torch_compile=True, compile_teacher=True)
    assert logs(run, "loss") == pytest.approx(logs(plain, "loss"), rel=1e-3, abs=1e-3)


# The decoder of `caption` has a mask of its own, which torch's flash attention does not take.
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "caption"])
def test_flash_attention(tmp_path, name):
    """Only torch's flash attention is allowed, so a pass that cannot use it fails."""
    runs = []
    for attention, kernels in (("eager", nullcontext()), ("sdpa", sdpa_kernel(SDPBackend.FLASH_ATTENTION))):
        student = make_clip()
        student.set_attn_implementation(attention)
        with kernels:
            # The teacher's masks may need another kernel, so it stays with its own attention.
            runs.append(trained(tmp_path, name, student, bf16=True, eager_teacher=True))
    assert logs(runs[1], "loss") == pytest.approx(logs(runs[0], "loss"), rel=5e-2, abs=5e-2)


def test_a_batch_that_does_not_fit_is_cut_up(tmp_path):
    """A real full memory: the student may have 40 % of what the whole batch takes."""
    wide = {"width": 512, "num_hidden_layers": 8}
    settings = {
        "use_cpu": False,
        "per_device_train_batch_size": 4096,
        "max_steps": 2,
        "teacher": False,
        "losses": {"clip": 1},
    }
    torch.cuda.reset_peak_memory_stats()
    whole = make_trainer(tmp_path, make_clip(**wide), dataset=LargePairs(), **settings)
    whole.train()
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    expected = logs(whole, "loss")
    del whole
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.4 * peak / total)
    try:
        run = make_trainer(tmp_path, make_clip(**wide), dataset=LargePairs(), auto_find_batch_size=True, **settings)
        run.train()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run.args.per_device_train_batch_size < 4096
    assert logs(run, "loss") == pytest.approx(expected, rel=1e-4)


class LargePairs(torch.utils.data.Dataset):
    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 38, (6,), generator=generator)
        ids[-1] = 39
        return {"pixel_values": torch.randn(3, 16, 16, generator=generator), "input_ids": ids}

    def __len__(self):
        return 8192
