"""
Images of the world `shapes` that one core makes per second, with captions, drawing and encoding.

    python tests/bench/bench_shapes.py

writes outputs/bench/shapes.json.
"""

import os
import statistics
import time

# The threads are set before NumPy is imported, because the number is that of one core.
os.environ["OMP_NUM_THREADS"] = "1"

from report import machine, write

from hf_clip_kd.data.shapes import load_shapes

IMAGES = 8192
REPEATS = 7


def measure(images, repeats, **options):
    """Return images per second of wall time and of CPU time, for each repeat. Each repeat has another seed."""
    load_shapes("train", size=512, **options)
    rates, cpu_rates = [], []
    for seed in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        load_shapes("train", size=images, seed=seed, **options)
        rates.append(images / (time.perf_counter() - wall))
        cpu_rates.append(images / (time.process_time() - cpu))
    return rates, cpu_rates


def main(images=IMAGES, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    rates, cpu_rates = measure(images, repeats)
    return write(
        "shapes",
        {
            "images_per_second": round(statistics.median(rates)),
            "images_per_second_spread": [round(min(rates)), round(max(rates))],
            "images_per_cpu_second": round(statistics.median(cpu_rates)),
            "images_per_cpu_second_spread": [round(min(cpu_rates)), round(max(cpu_rates))],
            "images": images,
            "image_size": 32,
            "repeats": repeats,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
