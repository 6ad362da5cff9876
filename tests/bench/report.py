"""Facts that every benchmark writes beside its numbers, rows for the table of all, and the folder for them."""

import json
import os
import platform
import statistics
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from hf_clip_kd.recipe_io.results import write_whole

OUTPUTS = Path(__file__).parents[2] / "outputs" / "bench"
# Name of a package -> its module.
PACKAGES = {name: name for name in ("torch", "transformers", "accelerate", "datasets", "numpy", "webdataset")}
PACKAGES |= {"pillow": "PIL", "open_clip_torch": "open_clip"}


def machine(threads=1, device="cpu"):
    """Describe the machine of the measurement, with the versions of the packages that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES if find_spec(PACKAGES[name])},
    }


def row(what, peer_name, ours, peer, unit, *, at_least=None, at_most=None, memory=None):
    """
    Make a row of the table of all benchmarks.

    `ours` and `peer` have a number for each repeat, and the ratio is that of one repeat. A `unit` is `s`, or something
    per second. One of the limits may be given. `memory` is the peak of ours and of the peer, in MB.
    """
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "what": what,
        "peer_name": peer_name,
        "ours": rounded(statistics.median(ours)),
        "peer": rounded(statistics.median(peer)),
        "unit": unit,
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "repeats": len(ratios),
        "at_least": at_least,
        "at_most": at_most,
        "memory_mb": None if memory is None else [round(value) for value in memory],
    }


def rounded(number):
    """Round to four significant digits."""
    return float(f"{number:.4g}")


def write(name, result):
    """Write outputs/bench/NAME.json, print it and return the result."""
    text = json.dumps(result, indent=2)
    write_whole(OUTPUTS / f"{name}.json", text + "\n")
    print(text)
    return result
