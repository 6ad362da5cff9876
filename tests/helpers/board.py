"""A board on which a process says what it does, for others to read."""

from contextlib import contextmanager

import numpy as np

PHASES = ("other", "data", "forward", "optimizer", "saving", "rotating", "pushing")


class Board:
    """The phase of a process and its count of each phase, in a file that outlives the process."""

    def __init__(self, path):
        # The phases of the main thread and of the thread that pushes, and the counts.
        self.cells = np.memmap(path, dtype=np.int64, mode="r+" if path.exists() else "w+", shape=2 + len(PHASES))

    @contextmanager
    def phase(self, name):
        number, place = PHASES.index(name), int(name == "pushing")
        before = int(self.cells[place])
        self.cells[place] = number
        self.cells[2 + number] += 1
        try:
            yield
        finally:
            self.cells[place] = before

    def now(self):
        """Return the phase: pushing if there is a push, else that of the main thread."""
        return PHASES[int(self.cells[1] or self.cells[0])]

    def count(self, name):
        return int(self.cells[2 + PHASES.index(name)])
