"""Implementations that take turns. Each run has its own process, so that nothing it leaves helps the next."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch


def take_turns(script, names, repeats, *arguments):
    """
    Run `script NAME ARGUMENTS...` for each name in turn, `repeats` times, and return the JSONs by name.

    The last line that such a run prints is its JSON.
    """
    results = {name: [] for name in names}
    for _ in range(repeats):
        for name, runs in results.items():
            command = [sys.executable, script, name, *map(str, arguments)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs.append(json.loads(printed.splitlines()[-1]))
    return results


def of(results, name, key):
    """Return the number `key` of each repeat."""
    return [result[key] for result in results[name]]


def memory(results, *names):
    """Return the median peak of each name, in MB."""
    return [statistics.median(of(results, name, "megabytes")) for name in names]


def peak_memory():
    """Return the peak of this process in MB: of a GPU what torch took there, else the resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def median_gap(moments, warm_up):
    """Return the median seconds between moments, without the first ones."""
    moments = moments[warm_up:]
    return statistics.median(b - a for a, b in zip(moments[:-1], moments[1:], strict=True))
