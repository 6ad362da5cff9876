"""Watch over the other processes of a run, so that an error names the rank that has gone."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .distributed import Store, gather_objects, open_store, rank, talk_failed, world_size

logger = logging.getLogger(__name__)

BEAT = 2.0  # seconds between two signs of life
PATIENCE = 5  # beats without a sign of life after which a process is silent
WARN_SECONDS = 60.0
ANSWER_SECONDS = 10.0  # patience with the store, which a stopped process may hold
LEFT, ENDED = "left", "ended: "


class Peers:
    """
    Let each process give signs of life, and name those that give none once the talk between processes has failed.

    The error of a broken connection or of a timeout names an address at most. A process that was killed or stopped
    gives no sign any more. A process that ends in an error leaves the reason behind. Both are read from the store in
    which the processes of the run met. Rank 0 also warns of processes that have been silent for a minute. A timeout,
    `ddp_timeout`, ends the waiting for them.
    """

    def __init__(self):
        self._stop: threading.Event | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """
        Watch while work is shared; all processes must enter and leave together.

        Raises:
            RuntimeError: The talk with the others failed, and the message names the silent or ended ranks.
        """
        if world_size() == 1 or self._stop is not None:
            yield
            return
        self._store, self._who = open_store(), _who()
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, args=(self._stop,), daemon=True)
        self._beats.start()
        try:
            yield
        except Exception as error:
            reason = f"{ENDED}{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('. ')}"
            self._leave(LEFT if talk_failed(error) else reason)  # whoever lost another is not the reason
            if talk_failed(error) and (lost := self._lost()):
                raise RuntimeError(
                    f"{lost}. All processes of a run must go on together, so this one ends, too. Look at the log of "
                    "that rank, and at the memory of its machine. Run the same command with "
                    "`--resume_from_checkpoint auto` to go on from the last whole checkpoint."
                ) from error
            raise
        except BaseException:
            self._leave(LEFT)
            raise
        else:
            self._leave(LEFT)

    def _leave(self, word: str) -> None:
        self._stop.set()
        self._beats.join(ANSWER_SECONDS)  # its last sign must not come after the word
        self._stop = None
        _within(lambda: self._store.set(str(rank()), word))

    def _beat(self, stop: threading.Event) -> None:
        store, number = open_store(), 0
        heard: dict[int, tuple[str, float]] = {}
        while not stop.is_set():
            try:
                store.set(str(rank()), str(number))
                if rank() == 0:
                    self._warn(store, heard)
            except RuntimeError:
                return  # The store is gone. The main thread will notice it, too.
            number += 1
            stop.wait(BEAT)

    def _warn(self, store: Store, heard: dict[int, tuple[str, float]]) -> None:
        now = time.monotonic()
        for number, word in enumerate(_read(store)):
            before, since = heard.get(number, (None, now))
            if word != before or word.startswith((LEFT, ENDED)):
                heard[number] = word, now
            elif before is not None and now - since > WARN_SECONDS:
                logger.warning(
                    "%s has given no sign of life for %.0f seconds. The others wait for it.",
                    self._name(number),
                    now - since,
                )
                heard[number] = word, now  # once a minute

    def _lost(self) -> str | None:
        """Return words on the ranks that ended, or gave no sign of life for some beats; `None` without any."""
        before = _within(lambda: _read(self._store))
        end = time.monotonic() + PATIENCE * BEAT
        words = before
        while words is not None and time.monotonic() < end and not _reasons(words):
            time.sleep(BEAT / 2)
            words = _within(lambda: _read(self._store))
        if words is None:  # Its store lives in the process of rank 0, or in that of its launcher.
            return f"{self._name(0)}, or the launcher beside it, does not answer any more"
        if reasons := _reasons(words):
            return "; ".join(f"{self._name(number)} {reason}" for number, reason in reasons.items())
        silent = [
            number
            for number, (word, old) in enumerate(zip(words, before, strict=True))
            if number != rank() and word == old != LEFT
        ]
        if not silent:
            return None
        names = "; ".join(map(self._name, silent))
        return f"{names}: killed or stopped, since it gave no sign of life for {PATIENCE * BEAT:.0f} seconds"

    def _name(self, number: int) -> str:
        return f"Rank {number} ({self._who[number]})"


def _who() -> list[str]:
    """Return the machine and the process of each rank."""
    return gather_objects(f"process {os.getpid()} on {socket.gethostname()}")


def _read(store: Store) -> list[str]:
    keys = [str(number) for number in range(world_size())]
    # A key that is not there yet would be waited for.
    return [store.get(key).decode() if store.check([key]) else "" for key in keys]


def _reasons(words: list[str]) -> dict[int, str]:
    return {number: word for number, word in enumerate(words) if word.startswith(ENDED) and number != rank()}


def _within(ask: Callable[[], Any]) -> Any:
    """Return the answer of the store, or `None` if it does not come."""
    answers = []

    def run() -> None:
        try:
            answers.append(ask())
        except RuntimeError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return answers[0] if answers else None
