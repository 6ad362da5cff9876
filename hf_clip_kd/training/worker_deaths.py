"""Deaths of dataloader workers, mostly for want of memory, told in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb


@contextmanager
def explained_worker_death() -> Iterator[None]:
    """
    Add the likely reason and the way out to PyTorch's error of a dataloader worker that has died.

    PyTorch raises it from a signal handler, wherever the program is. So nothing waits for the rows of the dead. A
    batch that is fetched at that moment may end in an error of its connection instead.

    Raises:
        RuntimeError: A worker has died.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        told = str(error).split("\n")[0].rstrip(". ")
        if not told.startswith("DataLoader worker"):
            if not any(frame.name == "_try_get_data" for frame in extract_tb(error.__traceback__)):
                raise
            told = f"DataLoader worker is gone ({told})"
        raise RuntimeError(
            f"{told}. A worker must live as long as its data are read. The system "
            "kills one where memory runs out, without a word of its own. Lower `dataloader_num_workers` or "
            "`dataloader_prefetch_factor`, and resume with `--resume_from_checkpoint auto`."
        ) from error
