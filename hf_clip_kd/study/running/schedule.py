"""Run the stages of a study as processes, several at once, each after all that it needs and only once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ...recipe_io.results import write_whole
from .stages import DONE, KINDS, Stage

LOCK, LOG = "stage.lock", "log.txt"
POLL_SECONDS, GRACE_SECONDS = 0.2, 120.0


@dataclass(frozen=True)
class Ended:
    """The end of a stage."""

    stage: Stage
    outcome: str = field(metadata={"help": "`done`, `failed`, or `skipped` because what it needs failed."})
    seconds: float | None = field(default=None, metadata={"help": "Time that it took, if it ran."})
    earlier: bool = field(default=False, metadata={"help": "True if another run of the study had done it."})
    error: str | None = field(default=None, metadata={"help": "Reason of a failure."})


@dataclass
class _Running:
    stage: Stage
    process: subprocess.Popen
    lock: IO
    started: float


class Schedule:
    """
    The order of stages, and the processes that run them.

    Several runs of a study may work in one folder, on one machine or many. Each stage is locked by the process that
    runs it. The lock outlives a runner that was killed, as long as the stage's process lives.

    Args:
        root (`Path`): Folder of the study.
        recipes (`Path`): Folder of the scripts.
        processes (`int`): Stages at the same time.
        threads (`int`): Threads of each.
        accelerate_config (`str`, *optional*): File for `accelerate launch`.
    """

    def __init__(
        self, root: Path, recipes: Path, *, processes: int, threads: int, accelerate_config: str | None = None
    ):
        self.root, self.recipes = root, recipes
        self.processes, self.threads, self.accelerate_config = processes, threads, accelerate_config
        self.running: list[_Running] = []

    def run(self, stages: list[Stage], watch: Callable[[dict[Stage, float]], None] | None = None) -> Iterator[Ended]:
        """
        Yield each stage as it ends.

        An exception or `close` stops the running stages, after they have saved.

        Args:
            stages (`list[Stage]`): None before what it needs; those in front are started first.
            watch (`Callable`, *optional*): Gets the running stages with their seconds, several times a second.
        """
        waiting, outcomes = list(stages), {}
        sharing: dict[Path, list[Stage]] = defaultdict(list)
        for stage in stages:
            if stage.features is not None:
                sharing[self.root / stage.features].append(stage)
        try:
            while waiting or self.running:
                ended = self._ended()
                outcomes |= {end.stage.id: end.outcome for end in ended}
                for stage in list(waiting):
                    end = self._settled(stage, outcomes)
                    if end is not None:
                        ended.append(end)
                        outcomes[stage.id] = end.outcome
                    if end is not None or self._started(stage, outcomes):
                        waiting.remove(stage)
                for folder in {self.root / end.stage.features for end in ended if end.stage.features is not None}:
                    if folder.is_dir() and all(stage.record(self.root) is not None for stage in sharing[folder]):
                        shutil.rmtree(folder, ignore_errors=True)  # Another run may delete it at the same time.
                yield from ended
                if watch is not None:
                    watch({run.stage: time.monotonic() - run.started for run in self.running})
                if not ended:
                    time.sleep(POLL_SECONDS)
        finally:
            self._stop()

    def command(self, stage: Stage) -> list[str]:
        """Return the command of a stage, after writing its arguments into its folder."""
        kind = KINDS[stage.kind]
        launch = [sys.executable]
        if self.accelerate_config is not None and kind.launched:
            # Port 0 is any free one: several stages may run at once.
            launch = [*launch, "-m", "accelerate.commands.launch", "--config_file", self.accelerate_config]
            launch += ["--main_process_port", "0", "--num_cpu_threads_per_process", str(self.threads)]
        return [*launch, str(self.recipes / kind.script), "--config", str(stage.write_arguments(self.root))]

    def _settled(self, stage: Stage, outcomes: dict[str, str]) -> Ended | None:
        """Return the end of a stage that need not run, or `None`."""
        record = stage.record(self.root)
        if record is not None:
            self._clean(stage)
            return Ended(stage, "done", record["seconds"], earlier=True)
        missing = [need for need in stage.needs if outcomes.get(need.id) in ("failed", "skipped")]
        return Ended(stage, "skipped", error=f"{missing[0].id} {outcomes[missing[0].id]}") if missing else None

    def _clean(self, stage: Stage) -> None:
        for path in stage.temporary(self.root):
            shutil.rmtree(path, ignore_errors=True)

    def _started(self, stage: Stage, outcomes: dict[str, str]) -> bool:
        """Start a stage if its time has come, and nobody else has started it."""
        if len(self.running) >= self.processes or any(outcomes.get(need.id) != "done" for need in stage.needs):
            return False
        folder = self.root / stage.folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        if stage.record(self.root) is not None:  # Another run has just ended it. The next look settles that.
            lock.close()
            return False
        stage.forget_product(self.root)
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            "TQDM_DISABLE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with open(folder / LOG, "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                self.command(stage),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C reaches this process alone. It lets the others save.
            )
        self.running.append(_Running(stage, process, lock, time.monotonic()))
        return True

    def _ended(self) -> list[Ended]:
        found = [run for run in self.running if run.process.poll() is not None]
        self.running = [run for run in self.running if run not in found]
        return [self._finish(run) for run in found]

    def _finish(self, run: _Running) -> Ended:
        stage, seconds, folder = run.stage, round(time.monotonic() - run.started, 1), self.root / run.stage.folder
        code = run.process.returncode
        try:
            if code != 0 or not stage.is_whole(self.root):
                return Ended(stage, "failed", seconds, error=_why(code, folder / LOG))
            # The record makes the stage done for every run of the study. Checkpoints stay until then: a runner that is
            # killed before would start the stage again.
            record = {"id": stage.id, "kind": stage.kind, "seconds": seconds}
            write_whole(folder / DONE, json.dumps(record, indent=2) + "\n")
            self._clean(stage)
            return Ended(stage, "done", seconds)
        finally:
            run.lock.close()

    def _stop(self) -> None:
        """Send SIGTERM, at which trainings save and exit, and SIGKILL to those that take too long."""
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            deadline = time.monotonic() + patience
            for run in self.running:
                _signal(run, number)
            while self.running and time.monotonic() < deadline:
                self.running = [run for run in self.running if _alive(run)]
                time.sleep(POLL_SECONDS)


def _signal(run: _Running, number: int) -> bool:
    """Signal a process and all that it has started, and return True if any of them lives."""
    try:
        os.killpg(run.process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _alive(run: _Running) -> bool:
    run.process.poll()  # A process that nobody has asked about stays in the table.
    alive = _signal(run, 0)
    if not alive:
        run.lock.close()
    return alive


def _why(code: int, log: Path) -> str:
    """Return the exit code or signal of a stage, with the last line of its log."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code == 0:
        return f"stopped before its end; run the study again to go on ({lines[-1] if lines else 'it said nothing'})"
    ended = f"exit code {code}" if code > 0 else signal.Signals(-code).name
    return f"{ended}: {lines[-1] if lines else 'it said nothing'}"
