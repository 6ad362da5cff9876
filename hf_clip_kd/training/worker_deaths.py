"""Deaths of dataloader workers, mostly for want of memory, told in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def explained_worker_death() -> Iterator[None]:
    """
    Add the likely reason and the way out to PyTorch's error of a dataloader worker that has died.

    PyTorch raises it from a signal handler, wherever the program is. So nothing waits for the rows of the dead.

    Raises:
        RuntimeError: A worker has died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RuntimeError(
            f"{str(error).splitlines()[0].rstrip('. ')}. A worker must live as long as its data are read. The system "
            "kills one where memory runs out, without a word of its own. Lower `dataloader_num_workers` or "
            "`dataloader_prefetch_factor`, and resume with `--resume_from_checkpoint auto`."
        ) from error
