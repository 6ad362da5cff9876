"""Checks that need GPUs: every engine over NCCL gives the curve of one GPU, and a sharded teacher saves memory.

It starts one process per GPU, on two or more GPUs. A single GPU only runs the engines' code paths:

    torchrun --standalone --nproc_per_node 2 tests/gpu/engines_on_gpus.py outputs/engines_on_gpus.json

The file holds the largest relative difference of each engine's 20 losses from those of DDP.
It also holds the GPU's name and the peak of its memory. The script exits with an error if a curve differs by more
than 1e-5 (float32, TF32 off).
"""

import json
import os
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from engine_runs import ENGINES, forget_engine, make_run  # noqa: E402

TOLERANCE = 1e-5


def main(path: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    processes, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    curves, found = {}, {}
    for engine, settings in ENGINES.items():
        for sharded in (False, True):
            torch.cuda.reset_peak_memory_stats()
            name = f"{engine}, teacher {'sharded' if sharded else 'whole'}"
            run = make_run(f"outputs/{engine}", processes, use_cpu=False, teacher_sharded=sharded, **settings)
            run.train()
            curves[name] = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
            reference = next(iter(curves.values()))
            found[name] = {
                "engine": type(run.model_wrapped).__name__,
                "difference": max(abs(a - b) / abs(b) for a, b in zip(curves[name], reference, strict=True)),
                "peak_mb": torch.cuda.max_memory_allocated() / 1e6,
            }
            forget_engine()
    if rank == 0:
        machine = {"gpu": torch.cuda.get_device_name(), "gpus": processes, "torch": torch.__version__}
        machine["system"] = platform.platform()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"machine": machine, "runs": found}, indent=2) + "\n")
        print(json.dumps(found))
    bad = [name for name, result in found.items() if not result["difference"] <= TOLERANCE]
    if bad:
        raise SystemExit(f"Another curve than DDP's: {', '.join(bad)}.")


if __name__ == "__main__":
    main(sys.argv[1])
