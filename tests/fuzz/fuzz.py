"""
Damage files of every kind by chance, and read them. A right answer passes, and an error that names file and fix.

    python tests/fuzz/fuzz.py --minutes 30 --seed 0
    python tests/fuzz/fuzz.py --minutes 2 --kinds tar "teacher cache"

writes outputs/survival/fuzz.json. Each fault leaves its file in tests/fuzz/crashes, where `make test` reads it.
Inputs of more than 60 seconds or 3 GB are faults, too, as are those that end the process.
"""

import argparse
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

import datasets  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from fuzz_kinds import KINDS  # noqa: E402
from fuzzing import (  # noqa: E402
    CRASHES,
    SECONDS,
    damaged,
    fault,
    limit_memory,
    result_of,
    slug,
    with_files,
)

OUTPUT = Path("outputs/survival/fuzz.json")
HANGS, CRASHED = "takes more than", "ends the process"
SEEDS = 10**6  # Inputs of a seed of the command; the next seed begins after them.


def work(name, first, deadline, folder, connection):
    """Read inputs in a process of their own, and tell each before and after."""
    limit_memory()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    sys.stdout = sys.stderr = open(os.devnull, "w")
    with_files(name, folder)
    right = result_of(name, folder)
    for seed in count(first):
        if time.monotonic() > deadline:
            connection.send(None)
            return
        path, names = damaged(name, seed, folder)
        connection.send((seed, None))
        connection.send((seed, fault(name, folder, path, names, right) or ""))


def fuzz(name, first, seconds, folder):
    """
    Read damaged files of a kind for some seconds.

    Returns:
        `tuple`: the number of inputs, and `{seed: fault}`.
    """
    context, deadline = multiprocessing.get_context("fork"), time.monotonic() + seconds
    tried, faults, seed = 0, {}, first
    while time.monotonic() < deadline:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(name, seed, deadline, folder, sender))
        process.start()
        sender.close()
        patience = 3 * SECONDS  # The first input pays for what it needs.
        try:
            while receiver.poll(patience):
                message = receiver.recv()
                if message is None:
                    process.join()
                    return tried, faults
                (seed, found), patience = message, SECONDS
                tried += found is not None
                if found:
                    faults[seed] = found
            faults[seed] = f"{HANGS} {SECONDS} seconds"
            os.kill(process.pid, signal.SIGKILL)
        except EOFError:
            process.join()
            faults[seed] = f"{CRASHED} (exit code {process.exitcode})"
        process.join()
        tried, seed = tried + 1, seed + 1
    return tried, faults


def keep(name, faults, folder):
    """Keep one damaged file of each sort of fault, in a folder that names its seed and its damages."""
    sorts = {re.sub(r"[\d'\"/]+|0x\w+", "", found)[:50]: seed for seed, found in reversed(faults.items())}
    for seed in sorts.values():
        path, names = damaged(name, seed, folder)
        kept = CRASHES / slug(name) / "-".join([str(seed), *names]) / path.relative_to(folder)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(path.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="Time for all kinds together.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all damages.")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    given = parser.parse_args()
    tried, lost, hangs, crashes = Counter(), Counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        datasets.config.HF_DATASETS_CACHE = temporary
        folder = Path(temporary, "input")
        for name in given.kinds:
            seconds = 60 * given.minutes / len(given.kinds)
            number, faults = fuzz(name, given.seed * SEEDS, seconds, folder)
            keep(name, faults, folder)
            tried[KINDS[name].group] += number
            hangs[KINDS[name].group] += sum(found.startswith(HANGS) for found in faults.values())
            crashes[KINDS[name].group] += sum(found.startswith(CRASHED) for found in faults.values())
            lost[KINDS[name].group] += len(faults)
            print(f"{name}: {number} inputs, {len(faults)} faults", flush=True)
            for seed, found in list(faults.items())[:10]:
                print(f"  seed {seed}: {' '.join(found.split())[:200]}", flush=True)
    command = f"make fuzz MINUTES={given.minutes:g} SEED={given.seed}"
    counts = {"tried": tried, "lost": lost, "hangs": hangs, "crashes": crashes}
    rows = [
        {"what": group} | {word: count[group] for word, count in counts.items()} | {"command": command}
        for group in tried
    ]
    if given.kinds == list(KINDS):
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{sum(tried.values())} inputs, {sum(lost.values())} faults")
    return 1 if sum(lost.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
