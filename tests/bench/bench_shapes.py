"""
How many images of the world `shapes` one core makes in a second, captions, drawing and encoding included.

    python tests/bench/bench_shapes.py

writes outputs/bench/shapes.json.
"""

import json
import os
import platform
import statistics
import time
from pathlib import Path

# Before NumPy is imported: the number is one core's.
os.environ["OMP_NUM_THREADS"] = "1"

import datasets
import numpy as np

from hf_clip_kd.data.shapes import load_shapes

OUTPUT = Path(__file__).parents[2] / "outputs" / "bench" / "shapes.json"
IMAGES = 8192
REPEATS = 7


def measure(images=IMAGES, repeats=REPEATS, **options):
    """Images per second of wall time and of CPU time, one number per repeat; each repeat makes another seed's images."""
    load_shapes("train", size=512, **options)
    rates, cpu_rates = [], []
    for seed in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        load_shapes("train", size=images, seed=seed, **options)
        rates.append(images / (time.perf_counter() - wall))
        cpu_rates.append(images / (time.process_time() - cpu))
    return rates, cpu_rates


def machine():
    """What the number was measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "datasets": datasets.__version__,
    }


def main():
    """Measure, write the JSON and return it."""
    rates, cpu_rates = measure()
    result = {
        "images_per_second": round(statistics.median(rates)),
        "images_per_second_spread": [round(min(rates)), round(max(rates))],
        "images_per_cpu_second": round(statistics.median(cpu_rates)),
        "images_per_cpu_second_spread": [round(min(cpu_rates)), round(max(cpu_rates))],
        "images": IMAGES,
        "image_size": 32,
        "repeats": REPEATS,
        "machine": machine(),
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main()
