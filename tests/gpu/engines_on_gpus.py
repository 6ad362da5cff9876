"""What no CPU can show: every engine over NCCL gives the curve of one GPU, and what a sharded teacher saves.

One process per GPU, with two or more GPUs (one GPU runs too, and proves the engines' code paths alone):

    torchrun --standalone --nproc_per_node 2 tests/gpu/engines_on_gpus.py outputs/engines_on_gpus.json

Writes, for each engine, the largest relative difference of 20 losses from those of the first engine, which is DDP, and the peak of
the GPU's memory, with the name of the machine's GPU. Exits with an error if a curve differs by more than 1e-5 (float32, TF32 off).
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
        print(json.dumps(found, indent=2))
    bad = [name for name, one in found.items() if not one["difference"] <= TOLERANCE]
    if bad:
        raise SystemExit(f"Another curve than DDP's: {', '.join(bad)}.")


if __name__ == "__main__":
    main(sys.argv[1])
