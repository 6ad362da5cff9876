"""Deaths of dataloader workers, mostly for want of memory, told in words that help."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.data._utils import signal_handling

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
    with _explained_news(fix):
        try:
            yield
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            if not (_is_news(error) or _sender_is_gone(error)):
                raise
            _silence()
            raise _explained(error, fix) from error


@contextmanager
def _explained_news(fix: str) -> Iterator[None]:
    """Explain the error in the signal handler itself: it may leave from any place, also from an `except`."""
    if not _hears_signals():
        yield
        return
    signal_handling._set_SIGCHLD_handler()  # A loader would put its handler before the one below.
    handler = signal.getsignal(signal.SIGCHLD)

    def explaining(number, frame):
        try:
            handler(number, frame)
        except RuntimeError as error:
            if not _is_news(error):
                raise
            _silence()
            raise _explained(error, fix) from error

    if callable(handler):  # It is none after an earlier death.
        signal.signal(signal.SIGCHLD, explaining)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGCHLD) is explaining:
            signal.signal(signal.SIGCHLD, handler)


def _explained(error: Exception, fix: str) -> RuntimeError:
    said = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
    if not _is_news(error):
        said = f"DataLoader worker: {said}"
    return RuntimeError(
        f"A dataloader worker has died ({said}). It must live as long as its data are read. The system kills a "
        f"process where memory runs out, without a word. {fix}"
    )


def _silence() -> None:
    """Keep further news of the same death from interrupting the end. Later loaders ask for their workers in turn."""
    if _hears_signals():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _hears_signals() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")


def _is_news(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def _sender_is_gone(error: Exception) -> bool:
    """Return whether an error came up while PyTorch received a worker's batch, and not while it read the data."""
    if isinstance(error, RuntimeError):  # It may tell of too many open files.
        return False
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    return "/multiprocessing/" in files[-1] and any(name.endswith("torch/utils/data/dataloader.py") for name in files)
