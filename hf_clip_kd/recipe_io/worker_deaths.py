"""Deaths of dataloader workers, mostly for want of memory, told in words that help."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_FIX = (
    "Lower `dataloader_num_workers` or `dataloader_prefetch_factor`, and resume with `--resume_from_checkpoint auto`."
)


@contextmanager
def explained_worker_death(fix: str = _FIX) -> Iterator[None]:
    """
    Add the likely reason and the way out to the error of a dataloader worker that has died.

    PyTorch raises it from a signal handler, wherever the program is. So nothing waits for the rows of the dead. A
    batch that the worker had just sent cannot be received any more, which is another error.

    Args:
        fix (`str`, *optional*): Sentence that says what to do. The default is that of a training.

    Raises:
        RuntimeError: A worker has died.
    """
    # PyTorch may tell the same death again while the first telling is on its way out.
    with _explained(fix), _explained(fix):
        yield


@contextmanager
def _explained(fix: str) -> Iterator[None]:
    try:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            if not _sender_is_gone(error):
                raise
            # The signal may come at this place, too.
            raise RuntimeError(f"DataLoader worker: {str(error) or type(error).__name__}") from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        _silence()
        raise RuntimeError(
            f"A dataloader worker has died ({str(error).splitlines()[0].rstrip('. ')}). It must live as long as its "
            f"data are read. The system kills a process where memory runs out, without a word. {fix}"
        ) from error


def _silence() -> None:
    """Keep further news of the same death from interrupting the end. Later loaders ask for their workers in turn."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _sender_is_gone(error: Exception) -> bool:
    """Return whether an error came up while PyTorch received a worker's batch, and not while it read the data."""
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    return files[-1].endswith("multiprocessing/connection.py") and any(
        name.endswith("torch/utils/data/dataloader.py") for name in files
    )
