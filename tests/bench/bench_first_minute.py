"""
CPU time until Python answers, compared with `import torch, transformers`: our import, `--help`, a wrong argument.

    python tests/bench/bench_first_minute.py

writes outputs/bench/first_minute.json. Each is a fresh process, and they take turns. The parts of transformers are
imported when they are used. So its own CLIP and its own arguments are measured, too. Ours cannot be faster.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from report import machine, row, write
from turns import in_turn

REPEATS = 5
ROOT = Path(__file__).parents[2]
PYTHON, DISTILL = [sys.executable], [sys.executable, "recipes/distill.py"]
PEER = [*PYTHON, "-c", "import torch, transformers"]
WRONG = "distill.py, a wrong argument"
OURS = {
    "import hf_clip_kd": [*PYTHON, "-c", "import hf_clip_kd"],
    "distill.py --help": [*DISTILL, "--help"],
    WRONG: [*DISTILL, "--max_stepz", "3"],
}
FLOORS = {
    "from transformers import CLIPModel": [*PYTHON, "-c", "from transformers import CLIPModel"],
    "from transformers import TrainingArguments": [*PYTHON, "-c", "from transformers import TrainingArguments"],
}


def measured(name, command):
    """Return the CPU seconds of a process, which other programs disturb the least, and its peak of memory in MB."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | path, **silent)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (2 if name == WRONG else 0):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}, so its time says nothing.")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(repeats=REPEATS):
    """Measure, write the JSON and return it."""
    commands = {"peer": PEER} | OURS | FLOORS
    for name, command in commands.items():
        measured(name, command)  # files are in memory from here
    found = {name: [] for name in commands}
    for name in in_turn(commands, repeats):
        found[name].append(measured(name, commands[name]))
    seconds = {name: [time for time, _ in runs] for name, runs in found.items()}
    peaks = {name: statistics.median(peak for _, peak in runs) for name, runs in found.items()}
    limits = dict.fromkeys(OURS, 1.5)
    peer = "`import torch, transformers`"
    rows = [
        row(
            f"`{name}`, CPU time",
            peer,
            seconds[name],
            seconds["peer"],
            "s",
            at_most=limits.get(name),
            memory=[peaks[name], peaks["peer"]],
        )
        for name in OURS | FLOORS
    ]
    return write("first_minute", {"rows": rows, "machine": machine()})


if __name__ == "__main__":
    main()
