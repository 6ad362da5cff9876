"""One fuzzed input: damaged files, the reader, and the verdict. Each is known by its kind and a seed."""

import faulthandler
import random
import re
import resource
import shutil
import warnings
from pathlib import Path

from fuzz_kinds import KINDS
from mutations import mutate

TEXT = (".json", ".jsonl", ".yaml", ".csv", ".tsv", ".txt", ".jinja")
MEMORY = 3 * 2**30
"""Bytes that a process may take beyond what it had at the start."""
CRASHES = Path(__file__).parents[1] / "fuzz/crashes"
_SHORTEST = 40


def limit_memory():
    """Let an allocation of this process fail, which takes more than `MEMORY`."""
    faulthandler.enable()
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY, here + MEMORY))


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
        if path.name not in text and str(folder) not in text:
            return f"names no file: {text}"
        if len(text) < len(str(path)) + _SHORTEST:
            return f"says too little: {text}"
        if "MemoryError" in text:
            return f"takes too much memory: {text}"
        return None
    except MemoryError:
        return "takes too much memory"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if KINDS[name].whole and list(names) == ["truncate"] and result != right:
        return "a file that was cut short reads as another whole"
    return None
