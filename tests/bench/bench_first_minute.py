"""
Time until Python answers, compared with `import torch, transformers`: our import, `--help`, and a wrong argument.

    python tests/bench/bench_first_minute.py

writes outputs/bench/first_minute.json. Each is a fresh process, and they take turns. The parts of transformers are
imported when they are used. So its own CLIP and its own arguments are measured, too. Ours cannot be faster.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

from report import machine, row, write

REPEATS = 5
ROOT = Path(__file__).parents[2]
PYTHON, DISTILL = [sys.executable], [sys.executable, "recipes/distill.py"]
PEER = [*PYTHON, "-c", "import torch, transformers"]
OURS = {
    "import hf_clip_kd": [*PYTHON, "-c", "import hf_clip_kd"],
    "distill.py --help": [*DISTILL, "--help"],
    "distill.py, a wrong argument": [*DISTILL, "--max_stepz", "3"],
}
FLOORS = {
    "from transformers import CLIPModel": [*PYTHON, "-c", "from transformers import CLIPModel"],
    "from transformers import TrainingArguments": [*PYTHON, "-c", "from transformers import TrainingArguments"],
}


def seconds(command):
    """Return the CPU seconds of a process, which other programs disturb the least."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    subprocess.run(command, cwd=ROOT, env=os.environ | path, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(repeats=REPEATS):
    """Measure, write the JSON and return it."""
    commands = {"peer": PEER} | OURS | FLOORS
    times = {name: [] for name in commands}
    for command in commands.values():
        seconds(command)  # files are in memory from here
    for _ in range(repeats):
        for name, command in commands.items():
            times[name].append(seconds(command))
    limits = dict.fromkeys(OURS, 1.5)
    rows = [
        row(f"`{name}`", "`import torch, transformers`", times[name], times["peer"], "s", at_most=limits.get(name))
        for name in OURS | FLOORS
    ]
    return write("first_minute", {"rows": rows, "machine": machine("torch", "transformers")})


if __name__ == "__main__":
    main()
