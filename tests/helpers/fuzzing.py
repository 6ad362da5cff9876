"""One fuzzed input: damaged files, the reader, and the verdict. Each is known by its kind and a seed."""

import faulthandler
import random
import re
import resource
import shutil
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

from fuzz_kinds import KINDS
from mutations import mutate

TEXT = (".json", ".jsonl", ".yaml", ".csv", ".tsv", ".txt", ".jinja")
MEMORY = 3 * 2**30
"""Bytes that a process may take beyond what it had at the start."""
SECONDS = 60
"""Time to read an input."""
CRASHES = Path(__file__).parents[1] / "fuzz/crashes"
# Words with which an error tells its reader what to do.
_FIX = re.compile(
    r"(^|[.,;:] |\b[Oo]r |\band )(Add|Call|Check|Compare|Convert|Correct|Cut|Delete|Did you mean|Download|Evaluate|"
    r"Export|Give|Install|Leave|Load|Make|Move|Name|Pass|Put|Read|Remove|Rename|Repair|Restore|Resume|Run|Save|Say|"
    r"See|Set|Take|Train|Unpack|Use|Write)\b",
    re.IGNORECASE,
)
# Words of a row in the place of what was lost.
_TOLD = "is damaged after"


def limit_memory():
    """Let an allocation of this process fail, which takes more than `MEMORY`."""
    faulthandler.enable()
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def limits():
    """Let a reader fail in this process where it takes more than `MEMORY` or `SECONDS`."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _too_long)
    limit_memory()
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # A loop in C hears no signal.
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _too_long(number, frame):
    raise TimeoutError(f"takes more than {SECONDS} seconds")


def slug(name):
    """Return the name of a kind as that of a folder."""
    return re.sub(r"\W+", "-", name)


def with_files(name, folder):
    """Make a folder of good files, and of nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    KINDS[name].write(folder)


def damaged(name, seed, folder):
    """
    Write the files of a kind into a folder, one of them damaged as the seed says.

    Returns:
        `tuple`: the path of the damaged file, and the names of the damages.
    """
    rng, kind = random.Random(f"{name} {seed}"), KINDS[name]
    with_files(name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in kind.spared)
    path, other = rng.choice(files), rng.choice(files)
    data, names = mutate(path.read_bytes(), rng, other.read_bytes(), path.suffix in TEXT)
    path.write_bytes(data)
    return path, names


def result_of(name, folder):
    """Return what the reader makes of a folder, as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return repr(KINDS[name].read(folder))


def fault(name, folder, path, names=(), right=None):
    """
    Read a folder with a damaged file, and say what is wrong with the outcome.

    Args:
        name (`str`): Kind of the files.
        folder, path (`Path`): The files, and the damaged one.
        names (`list[str]`): Damages of it.
        right (`str`, *optional*): Result of the files before the damage.

    Returns:
        `str`: the fault; `None` for a result, or for an error that says file and fix.
    """
    try:
        result = result_of(name, folder)
    except ValueError as error:
        text = str(error)
        # A subclass of another library, such as a `UnicodeDecodeError`, was not meant for the user.
        if not type(error).__module__.startswith(("builtins", "hf_clip_kd")) or isinstance(error, UnicodeError):
            return f"{type(error).__name__}: {text}"
        if path.name not in text and not (KINDS[name].by_folder and str(folder) in text):
            return f"names no file: {text}"
        if not _FIX.search(text):
            return f"names no fix: {text}"
        if "MemoryError" in text:
            return f"takes too much memory: {text}"
        return None
    except MemoryError:
        return "takes too much memory"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if "MemoryError" in result:
        return "takes too much memory"
    if right is None or result == right:
        return None
    if KINDS[name].checked:
        return "a damaged file with a checksum reads as another whole"
    if KINDS[name].whole and set(names) == {"truncate"} and _TOLD not in result:
        return "a file that was cut short reads as another whole"
    return None
