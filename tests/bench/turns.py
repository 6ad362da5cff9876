"""Implementations that take turns. Each run has its own process, so that nothing it leaves helps the next."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch


def in_turn(names, repeats):
    """Yield each name once in a repeat. Every other repeat runs backwards, so that no name is always the first."""
    names = list(names)
    for repeat in range(repeats):
        yield from reversed(names) if repeat % 2 else names


def take_turns(script, names, repeats, *arguments):
    """
    Run `script NAME ARGUMENTS...` for each name in turn, `repeats` times, and return the JSONs by name.

    A name may be several words. The last line that such a run prints is its JSON.
    """
    results = {name: [] for name in names}
    for name in in_turn(names, repeats):
        words = name if isinstance(name, tuple) else (name,)
        command = [sys.executable, script, *map(str, (*words, *arguments))]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[name].append(json.loads(printed.splitlines()[-1]))
    return results


def of(results, name, key):
    """Return the number `key` of each repeat."""
    return [result[key] for result in results[name]]


def memory(results, *names):
    """Return the median peak of each name, in MB."""
    return [statistics.median(of(results, name, "megabytes")) for name in names]


def peak_memory(device="cpu"):
    """Return the peak of this process in MB: resident memory on a CPU, memory that torch took on a GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resident("VmHWM")


def resident(name):
    """Return this process's memory in MB: now (`VmRSS`) or at its highest so far (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def median_gap(moments, warm_up):
    """Return the median seconds between moments, without the first ones."""
    moments = moments[warm_up:]
    return statistics.median(b - a for a, b in zip(moments[:-1], moments[1:], strict=True))
