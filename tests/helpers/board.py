"""A board on which a process says what it does, for others to read."""

from contextlib import contextmanager

import numpy as np

PHASES = ("other", "data", "forward", "optimizer", "saving", "rotating", "pushing")


class Board:
    """The phase of a process and its count of each phase, in a file that outlives the process."""

    def __init__(self, path):
        self.cells = np.memmap(path, dtype=np.int64, mode="r+" if path.exists() else "w+", shape=1 + len(PHASES))

    @contextmanager
    def phase(self, name):
        number, before = PHASES.index(name), int(self.cells[0])
        self.cells[0] = number
        self.cells[1 + number] += 1
        yield
        self.cells[0] = before

    def now(self):
        return PHASES[int(self.cells[0])]

    def count(self, name):
        return int(self.cells[1 + PHASES.index(name)])
