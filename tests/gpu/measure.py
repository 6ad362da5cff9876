"""Parts of tests/gpu/run.sh, each a process of its own: correctness, speed beside open_clip, memory of the losses.

    python tests/gpu/measure.py cuda outputs/gpu.json           # all parts
    python tests/gpu/measure.py cpu outputs/gpu.json --tiny     # the same road on a CPU, with the smallest models

A part is a command with its longest time. Its last line is its JSON. The parts stand in the order of their worth.
"""

import argparse
import itertools
import json
import logging
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "bench"), str(ROOT / "tests" / "helpers")]

# Dense bf16 operations per second, by a part of the GPU's name, from its data sheet.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
PAIRS = {"B/16 → T/16": ("B/16", "ViT-T-16"), "L/14 → S/16": ("L/14", "ViT-S-16"), "tiny": ("tiny", "test-vit")}
KINDS = ("online compiled", "open_clip compiled", "cached compiled", "online", "open_clip", "alone compiled")
BATCHES = (1024, 256, 4096)
ALONE = {"clip": 1.0}
LOSSES = "clip or crd or patch or cut_up"
SWITCHES = ["tests/gpu/test_switches_on_gpu.py", "tests/gpu/test_synchronisations_on_gpu.py"]


def parts(device, tiny):
    """Return the command and the longest seconds of each part by its name."""
    measure = [sys.executable, str(Path(__file__).relative_to(ROOT)), device]
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", *SWITCHES, "-k", LOSSES]
    found = {"correctness": (pytest, 200)}
    if device == "cuda":
        engines = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
        found["engines"] = ([*engines, "tests/gpu/engines_on_gpus.py", "outputs/engines_on_gpus.json"], 120)
    sizes = [("tiny", 8)] if tiny else [(pair, batch) for batch in BATCHES for pair in list(PAIRS)[:2]]
    for (pair, batch), kind in itertools.product(sizes, KINDS):
        seconds = (120 if "compiled" in kind else 60) * (1 if device == "cuda" else 5)
        found[f"{pair}, batch {batch:,}, {kind}"] = ([*measure, "--step", pair, str(batch), *kind.split()], seconds)
    for batch in [64] if tiny else [16384, 65536]:
        found[f"clip_kd of {batch:,} pairs"] = ([*measure, "--loss", str(batch)], 60)
    return found


def main(device, out, tiny):
    """Run all parts that the file lacks, and write it after each."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    result = json.loads(path.read_text()) if path.is_file() else {}
    result["machine"] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "system": platform.platform(),
    }
    for name, (command, seconds) in parts(device, tiny).items():
        if "error" in result.get(name, {"error": ""}):
            start = time.monotonic()
            result[name] = outcome(command, seconds) | {"took_s": round(time.monotonic() - start, 1)}
            path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            print(name, json.dumps(result[name]), flush=True)


def outcome(command, seconds):
    """Return the JSON that a part prints last, or its last lines if it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {seconds} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        return {"error": "\n".join([*lines, *done.stderr.strip().splitlines()][-8:])}
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"output": lines[-1] if lines else ""}


def step(device, pair, batch, *options):
    """Measure a step of a pair, of a kind: words of KINDS."""
    from online import Setting, open_clip, ours

    teacher, student = PAIRS[pair]
    setting = Setting(
        student=student,
        teacher=teacher,
        batch=batch,
        steps=10 if device == "cuda" else 2,
        warm_up=5 if device == "cuda" else 1,
        bf16=True,
        compiled="compiled" in options,
        cached="cached" in options,
        losses=ALONE if "alone" in options else {"clip": 1.0, "affinity": 1.0},
        device=device,
    )
    torch.set_float32_matmul_precision("high")
    seconds, _ = (open_clip if "open_clip" in options else ours)(setting)
    operations = flops(setting) * batch
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    peak = peak_flops(device)
    return {
        "setting": asdict(setting),
        "seconds": seconds,
        "samples_per_second": batch / seconds,
        "flops_per_step": operations,
        "mfu": operations / seconds / peak,
        "peak_flops": peak,
        "peak_mb": memory,
    }


def flops(setting):
    """Return the operations of a pair: forward and backward of the student, forward of a live teacher."""
    from online import embeds, teacher_model, tokenized
    from torch.utils.flop_counter import FlopCounterMode

    import hf_clip_kd as kd

    student, processor = kd.load_clip(setting.student)
    (batch,) = tokenized(replace(setting, batch=2, steps=1, warm_up=0), processor)
    with FlopCounterMode(display=False) as counter:
        image, text = embeds(student, batch["pixel_values"], batch["input_ids"])
        (image.sum() + text.sum()).backward()
        if not setting.cached and setting.losses != ALONE:
            with torch.no_grad():
                embeds(teacher_model(setting), batch["pixel_values"], batch["input_ids"])
    return counter.get_total_flops() / 2


def peak_flops(device):
    """Return the device's dense bf16 operations per second: of its data sheet, else of a matrix product."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    known = [peak for part, peak in PEAKS.items() if part in name]
    if known:
        return known[0]
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def loss(device, batch):
    """Measure `clip_kd` and its gradient on embeddings 512 wide."""
    import hf_clip_kd as kd

    generator = torch.Generator().manual_seed(0)
    embeds = [torch.randn(batch, 512, generator=generator).to(device) for _ in range(4)]
    for x in embeds[:2]:
        x.requires_grad_()
    scales = [torch.tensor(value, device=device) for value in (14.3, 100.0)]
    losses = kd.LossSum("clip_kd", kd.CLIPDims(512), kd.CLIPDims(512)).to(device)
    start = time.perf_counter()
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        value, _ = losses(kd.CLIPFeatures(*embeds[:2], scales[0]), kd.CLIPFeatures(*embeds[2:], scales[1]))
        value.backward()
        value.item()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    return {"seconds": seconds, "peak_mb": memory, "loss": value.item()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=["cuda", "cpu"])
    parser.add_argument("out", nargs="?", default="outputs/gpu.json", help="The JSON, new or to be completed.")
    parser.add_argument("--tiny", action="store_true", help="The smallest models, to try the road.")
    parser.add_argument("--step", nargs="+", help="Measure a step: PAIR BATCH and options.")
    parser.add_argument("--loss", type=int, help="Measure the losses of so many pairs.")
    given = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ["HF_HUB_OFFLINE"] = "1"
    if given.step:
        pair, batch, *options = given.step
        print(json.dumps(step(given.device, pair, int(batch), *options), ensure_ascii=False))
    elif given.loss:
        print(json.dumps(loss(given.device, given.loss)))
    else:
        main(given.device, given.out, given.tiny)
