"""
Kill trainings and recipes at random moments until each comes to its end, and compare it with an undisturbed one.

    python tests/survival/kills.py --kills 1000

writes outputs/survival/kills.json. A row counts the kills of a kind of work, and the phases that they struck in.
It also counts the runs that were lost or ended otherwise. These stay in outputs/survival/lost. The JSON stays as it is
with `--only`. `make kills N=1000` sets the paths.
"""

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crashing import crash, servers
from killed_study import kill_family, results, start
from killed_work import WORK
from minihub import MiniHub

TOKEN = "hf_" + "m" * 34  # the shape of a real one

# Shares of the kills. A study has to import everything in each of its processes, so it gets few.
SHARES = {
    "map": 20,
    "map, DDP": 10,
    "map, full disk": 7,
    "DDP, full disk": 4,
    "stream": 8,
    "stream, DDP": 5,
    "stream, full disk": 3,
    "cache": 6,
    "cache, full disk": 3,
    "ZeRO-2": 5,
    "ZeRO-2, full disk": 3,
    "llava": 6,
    "llava, full disk": 3,
    "llava, LoRA, DDP": 3,
    "llava, ZeRO-2": 2,
    "push": 8,
    "cache_teacher.py": 3,
    "cache_teacher.py, full disk": 2,
    "cache_teacher.py, 2": 2,
    "evaluate.py": 1,
    "evaluate.py, full disk": 1,
    "push.py": 3,
    "push.py, full disk": 1,
    "study.py": 1,
}
NEEDED = ("saving", "rotating", "pushing")  # Phases of which a thousand kills must hit each.
RUNS = 25  # kills of one seed, after which another undisturbed run is the measure
ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "outputs/survival"


def parts(kills, shares):
    """Return pieces of the work: name, kills and seed."""
    total, pieces = sum(shares.values()), []
    for name, share in shares.items():
        left = math.ceil(kills * share / total)
        while left > 0:
            pieces.append((name, min(RUNS, left), len(pieces)))
            left -= RUNS
    return pieces


def crash_study(folder, kills, seed):
    """Kill a small study with all its children, as a power cut does, until it has ended."""
    chance, struck, lost = random.Random(seed), [], []
    assert start(folder / "whole").wait(timeout=900) == 0, "the study does not even run in peace"
    expected = results(folder / "whole")
    while len(struck) < kills:
        run = folder / f"run-{len(struck)}"
        for _ in range(min(4, kills - len(struck))):
            process = start(run)
            try:
                process.wait(chance.uniform(5, 40))
                break
            except subprocess.TimeoutExpired:
                kill_family(process)
                struck.append("study")
        if start(run).wait(timeout=900) != 0:
            lost.append(f"{run} did not end, seed {seed}")
        elif results(run) != expected:
            lost.append(f"{run} ended otherwise, seed {seed}")
    return struck, lost


def work(context, folder, piece):
    """Do one piece, and return its name, its kills and what was lost."""
    name, kills, seed = piece
    own = folder / f"{seed}"
    own.mkdir()
    try:
        found = crash_study(own, kills, seed) if name == "study.py" else crash(context, own, name, kills, seed)
        if not found[1]:
            shutil.rmtree(own)
    except Exception as error:  # One piece must not take the others with it.
        found = [], [f"{name}, seed {seed}: {type(error).__name__}: {error}"]
    print(f"{name}: {len(found[0])} kills, {len(found[1])} lost {found[1] or ''}", flush=True)
    return name, *found


def table(done, command):
    """Return the rows of the JSON: a row for each work, of its pieces `(name, phases struck, what was lost)`."""
    says = {name: kind.says for name, kind in WORK.items()} | {"study.py": "study.py, with all its children"}
    rows = []
    for name in dict.fromkeys(name for name, *_ in done):
        struck, lost = ([each for part in done if part[0] == name for each in part[i]] for i in (1, 2))
        rows.append(
            {
                "what": f"kills of {says[name]}",
                "tried": len(struck),
                "lost": len(lost),
                "hangs": sum("None" in words.partition("ended with")[2].partition("after")[0] for words in lost),
                "phases": dict(sorted(Counter(struck).items())),
                "command": command,
            }
        )
    return rows


def main(argv=None):
    """Kill, and write the JSON."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=1000, help="Number of kills.")
    flags.add_argument("--jobs", type=int, default=os.cpu_count(), help="Runs at the same time.")
    flags.add_argument("--only", nargs="*", choices=SHARES, help="Names of the work to kill.")
    args = flags.parse_args(argv)
    shares = {name: share for name, share in SHARES.items() if name in (args.only or SHARES)}
    hub = MiniHub().start()
    hub.add_user("me", TOKEN)
    folder = Path(tempfile.mkdtemp(prefix="kills_"))
    # Read by the libraries when they are imported, in this process and in those that it forks.
    os.environ |= {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    os.environ |= {"HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    context, started = servers(), time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda piece: work(context, folder, piece), parts(args.kills, shares)))
    command = f"make kills N={args.kills}"
    rows = table(done, command)
    tried, lost = (sum(row[key] for row in rows) for key in ("tried", "lost"))
    hit = sum((Counter(row["phases"]) for row in rows), Counter())
    missed = [phase for phase in NEEDED if not hit[phase]] if not args.only else []
    if not args.only:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        (OUTPUT / "kills.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{tried} kills in {time.monotonic() - started:,.0f} seconds, {lost} runs lost or different: {dict(hit)}")
    if lost:
        shutil.copytree(folder, OUTPUT / "lost", dirs_exist_ok=True)
        sys.exit(1)
    shutil.rmtree(folder)
    if missed:
        sys.exit(f"error: no kill struck while {' or '.join(missed)}. Kill more often: `make kills N=1000`.")


if __name__ == "__main__":
    main()
