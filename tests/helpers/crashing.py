"""Lives of work that SIGKILL ends: started in an instant, and struck at a chosen moment or at any."""

import multiprocessing
import os
import random
import shutil
import time
from itertools import count

from board import Board
from killed_work import STEPS, WORK
from ports import free_port

# Seconds that a phase lasts here at most. A kill comes at a random moment of it.
LASTS = {"other": 1.5, "data": 0.003, "forward": 0.03, "optimizer": 0.004}
LASTS |= {"saving": 0.06, "rotating": 0.008, "pushing": 0.1}
PATIENCE = 300


def servers():
    """Forks a warmed-up process in an instant: imports are nearly all that a small run costs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_runs"])
    return context


def _live(*args):
    from killed_runs import live

    live(*args)


def _prepare(*args):
    from killed_runs import prepare_all

    prepare_all(*args)


class Launch:
    """One life of a run, on one process or several."""

    def __init__(self, context, name, folder, full_at=None, **changes):
        work = WORK[name]
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder.parent / "prepared").exists():  # files that all lives share
            first = context.Process(target=_prepare, args=(name, folder.parent))
            first.start()
            first.join()
            (folder.parent / "prepared").touch()
        port = free_port()
        for board in folder.glob("board-*"):
            board.unlink()
        self.boards = [Board(folder / f"board-{rank}") for rank in range(work.processes)]
        self.processes = [
            context.Process(target=_live, args=(name, folder, rank, work.processes, port, full_at, changes))
            for rank in range(work.processes)
        ]
        for process in self.processes:
            process.start()

    def alive(self):
        return all(process.is_alive() for process in self.processes)

    def join(self):
        """Wait for the end; the exit codes. `None` is that of a process that hangs."""
        end = time.monotonic() + PATIENCE
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self._kill_all()
        return codes

    def kill(self, chance: random.Random, phase, times):
        """
        Kill a random process at a random moment of its `times`-th `phase`, and then the others, as a launcher does.

        Returns the phase that it was in, or None if it had ended before.
        """
        victim = chance.randrange(len(self.processes))
        board, process = self.boards[victim], self.processes[victim]
        end = time.monotonic() + PATIENCE
        while phase != "other" and board.count(phase) < times and process.is_alive() and time.monotonic() < end:
            time.sleep(0.0002)
        return self._strike(victim, chance, chance.uniform(0, LASTS[phase]))

    def kill_after(self, chance: random.Random, seconds):
        """Kill a random process after so many seconds, and then the others; `None` if it had ended before."""
        return self._strike(chance.randrange(len(self.processes)), chance, seconds)

    def _strike(self, victim, chance, seconds):
        process = self.processes[victim]
        process.join(seconds)
        struck = process.is_alive()
        _kill_group(process)
        process.join()
        doing = self.boards[victim].now() if struck and process.exitcode == -9 else None
        time.sleep(chance.uniform(0, 0.05))
        self._kill_all()
        return doing

    def _kill_all(self):
        for process in self.processes:
            _kill_group(process)
            process.join()


def _kill_group(process):
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        process.kill()  # it has not got so far as to have a group, or is gone


def digests(folder, processes):
    return [(folder / f"digest-{rank}").read_text() for rank in range(processes)]


def crash(context, folder, name, kills, seed):
    """
    Kill runs until there were so many kills, and let each run come to its end after eight at most.

    The seed is that of all moments. It also says which phase comes first. Returns the phases in which the kills
    struck, and a sentence for each run that was lost or ended otherwise.
    """
    chance, work = random.Random(seed), WORK[name]
    start = time.monotonic()
    codes = Launch(context, name, folder / "whole").join()
    assert codes == [0] * work.processes, f"{name} does not even run in peace: {codes}"
    seconds, expected = time.monotonic() - start, digests(folder / "whole", work.processes)
    struck, lost = [], []
    for number in count():
        run = folder / f"run-{number}"
        for _ in range(min(8, kills - len(struck))):
            full_at = None
            if work.disk and chance.random() < 0.5:  # The step, and the bytes that a file may still have.
                full_at = chance.randrange(STEPS), chance.choice((0, chance.randrange(100_000)))
            life = Launch(context, name, run, full_at)
            if work.phases:
                phase = work.phases[(seed + len(struck)) % len(work.phases)]
                doing = life.kill(chance, phase, chance.randint(1, 3))
            else:
                moment = chance.uniform(0, seconds)
                doing = life.kill_after(chance, moment)
                if (
                    doing is None and full_at is None
                ):  # The first life was slower, since it made the caches of the libraries.
                    seconds = max(0.2, 0.8 * moment)
            if doing is None:
                break
            struck.append(doing)
        codes = Launch(context, name, run).join()
        if codes != [0] * work.processes:
            lost.append(f"{run} ended with {codes} after {struck[-8:]}, seed {seed}")
        elif (found := digests(run, work.processes)) != expected:
            parts = {part.split("=")[0] for part in {*" ".join(found).split()} ^ {*" ".join(expected).split()}}
            lost.append(f"{run} ended otherwise after {struck[-8:]} in {sorted(parts)}, seed {seed}")
        elif work.phases and not (run / f"checkpoint-{STEPS}" / "checkpoint.json").is_file():
            lost.append(f"{run} has no last checkpoint after {struck[-8:]}, seed {seed}")
        elif list(run.glob("torn-*")):
            lost.append(f"{run} keeps torn checkpoints after {struck[-8:]}, seed {seed}")
        else:
            shutil.rmtree(run)
        if len(struck) >= kills:
            return struck, lost
