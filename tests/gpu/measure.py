"""Parts of tests/gpu/run.sh, each a process of its own: correctness, speed beside open_clip, memory of the losses.

    python tests/gpu/measure.py cuda outputs/gpu.json           # all parts
    python tests/gpu/measure.py cpu outputs/gpu.json --tiny     # the same road on a CPU, with the smallest models

A part is a command with its longest time. Its last line is its JSON. The parts stand in the order of their worth, and
none starts that has no time left. A later run makes those that lack.
"""

import argparse
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench"), str(ROOT / "tests" / "helpers")]

from report import machine  # noqa: E402
from turns import peak_memory  # noqa: E402

from hf_clip_kd.recipe_io.results import write_whole  # noqa: E402

# Dense bf16 operations per second, by a part of the GPU's name, from its data sheet.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
PAIRS = {"B/16 → T/16": ("B/16", "ViT-T-16"), "L/14 → S/16": ("L/14", "ViT-S-16"), "tiny": ("tiny", "test-vit")}
KINDS = (
    "online compiled",
    "open_clip compiled",
    "cached compiled",
    "alone compiled",
    "online",
    "open_clip",
    "cached",
)
BATCHES = (256, 1024, 4096)
ALONE = {"clip": 1.0}
# Tests of a device: on a CPU those of the same switches.
TESTS = {
    "cuda": ["tests/gpu/test_switches_on_gpu.py", "tests/gpu/test_synchronisations_on_gpu.py"],
    "cpu": ["tests/invariants/test_switches.py", "tests/invariants/test_device_reads.py"],
}
SHORTEST = 20  # Seconds that a part needs at least.


def parts(device, tiny):
    """Return the command and the longest seconds of each part by its name."""
    measure = [sys.executable, str(Path(__file__).relative_to(ROOT)), device]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS[device]]
    pytest += ["-m", ""] if device == "cuda" else []
    engines = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    # Machine code takes minutes for all losses.
    found = {"correctness": ([*pytest, "-k", "not machine_code"], 240 if device == "cuda" else 600)}
    for batch in [8] if tiny else BATCHES:
        for pair, kind in itertools.product(["tiny"] if tiny else list(PAIRS)[:2], KINDS):
            seconds = (120 if "compiled" in kind else 60) * (1 if device == "cuda" else 5)
            command = [*measure, "--step", pair, str(batch), *kind.split()]
            found[f"{pair}, batch {batch:,}, {kind}"] = (command, seconds)
        if batch in (8, BATCHES[0]):
            for size in [64] if tiny else [16384, 65536]:
                found[f"clip_kd of {size:,} pairs"] = ([*measure, "--loss", str(size)], 60)
            if device == "cuda":
                command = [*engines, "tests/gpu/engines_on_gpus.py", "outputs/engines_on_gpus.json"]
                found["engines"] = (command, 120)
    if device == "cuda":
        found["correctness of machine code"] = ([*pytest, "-k", "machine_code"], 600)
    return found


def main(device, out, tiny, minutes):
    """Run the parts that the file lacks as long as there is time, and write the file after each."""
    path, end = Path(out), time.monotonic() + 60 * minutes
    result = json.loads(path.read_text()) if path.is_file() else {}
    result["machine"] = machine(torch.get_num_threads(), device)
    for name, (command, seconds) in parts(device, tiny).items():
        start = time.monotonic()
        if "error" in result.get(name, {"error": ""}) and end - start > SHORTEST:
            result[name] = outcome(command, min(seconds, end - start))
            result[name]["took_s"] = round(time.monotonic() - start, 1)
            write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            print(name, json.dumps(result[name]), flush=True)
    lacking = [name for name in parts(device, tiny) if "error" in result.get(name, {"error": ""})]
    if lacking:
        raise SystemExit(f"These parts lack: {', '.join(lacking)}. Run again to make them.")


def outcome(command, seconds):
    """
    Return the JSON that a part prints last, or the result of its tests.

    A full memory is a result, too: `out_of_memory`. A part that fails or takes too long has its last lines in `error`.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {seconds:.0f} s"}
    finally:
        end(process)
    lines = output.strip().splitlines()
    if process.returncode:
        last = [*lines, *errors.strip().splitlines()][-8:]
        full = [line for line in last if "OutOfMemoryError" in line]
        return {"out_of_memory": full[-1]} if full else {"error": "\n".join(last)}
    if lines and lines[-1].startswith("{"):
        return json.loads(lines[-1])
    if not lines or " passed" not in lines[-1]:
        return {"error": f"no test ran: {lines[-1] if lines else 'nothing was printed'}"}
    return {"output": lines[-1]}


def end(process):
    """End a process with all that it has started."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                process.communicate(timeout=10)
                break
            except subprocess.TimeoutExpired:
                pass


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
        padding="max_length",  # open_clip does the same
        device=device,
    )
    torch.set_float32_matmul_precision("high")
    seconds = (open_clip if "open_clip" in options else ours)(setting).seconds
    memory = peak_memory(device)
    operations = flops(setting) * batch
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
    (batch,) = tokenized(replace(setting, batch=2, steps=1, warm_up=0, device="cpu"), processor)
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
    return {"seconds": seconds, "peak_mb": peak_memory(device), "loss": value.item()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=["cuda", "cpu"])
    parser.add_argument("out", nargs="?", default="outputs/gpu.json", help="The JSON, new or to be completed.")
    parser.add_argument("--tiny", action="store_true", help="The smallest models, to try the road.")
    parser.add_argument("--minutes", type=float, default=15, help="Time for all parts. Default: 15.")
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
        main(given.device, given.out, given.tiny, given.minutes)
