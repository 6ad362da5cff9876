"""Files of a checkpoint: the mark of a complete one, and the search for the last complete one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..recipe_io.checked_tensors import CHECKSUM
from ..recipe_io.foreign import ForeignFileError, fields
from ..recipe_io.format_version import NAME as VERSION
from ..recipe_io.format_version import check_version
from ..recipe_io.results import read_written, write_whole
from ..recipe_io.sealed import SINCE, check_seal, sealed

logger = logging.getLogger(__name__)

MARK = "checkpoint.json"
NAME = re.compile(r"checkpoint-(\d+)")
# Files and folders of an optimizer: of PyTorch and of FSDP, and of DeepSpeed.
OPTIMIZER = re.compile(r"optimizer|global_step\d")
BLOCK = 2**24  # bytes of a file that are read at once


def mark_complete(folder: Path, run: dict[str, Any]) -> None:
    """
    Declare a checkpoint complete, once all its files are on the disk itself and not only on their way.

    Args:
        folder (`Path`): The checkpoint, with all files of all processes.
        run (`dict`): A description of the run for [`read_run`], in JSON's types.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in [*files.values(), *(path for path in folder.rglob("*") if path.is_dir())]:
        _to_disk(path)
    mark = sealed({"run": run, "files": _contents(files)}, "checkpoint")
    write_whole(folder / MARK, json.dumps(mark, indent=2) + "\n")
    for path in (folder, folder.parent):
        _to_disk(path)


def why_incomplete(folder: Path) -> str | None:
    """
    Return the reason why a checkpoint is torn or damaged, in words; `None` if it is complete. All its files are read.

    Raises:
        ForeignFileError: A later version of the package wrote it.
    """
    if not (folder / MARK).is_file():
        return f"it has no {MARK}, which is written last"
    try:
        mark = read_written(folder / MARK)
    except ForeignFileError:
        return f"its {MARK} is damaged"
    check_version(mark, folder / MARK, "checkpoint")
    try:
        files = _checked(mark, folder)
    except ForeignFileError:
        return f"its {MARK} is damaged"
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != content["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes of {content['bytes']:,}"
    written = {name: content for name, content in files.items() if CHECKSUM in content}
    for name, found in _contents({name: folder / name for name in written}).items():
        if found != written[name]:
            return f"{name} has the checksum {found[CHECKSUM]}, and {written[name][CHECKSUM]} was written"
    return None


def read_run(folder: Path) -> dict[str, Any]:
    """Return the description of a complete checkpoint's run, as [`mark_complete`] wrote it."""
    return read_written(folder / MARK)["run"]


def has_optimizer(folder: Path) -> bool:
    """Return whether a complete checkpoint holds the state of the optimizer, without which no run resumes exactly."""
    return any(OPTIMIZER.match(name) for name in read_written(folder / MARK)["files"])


def _checked(mark: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and checksum of each file that a mark lists. Those of earlier versions have no checksums."""
    words = {"allowed": "It must be the mark of a checkpoint.", "fix": "Resume from another checkpoint."}
    check_seal(mark, folder / MARK, **words)
    run, files = fields(mark, {"run": dict, "files": dict}, folder / MARK, where="the file", **words)
    fields(run, {"engine": str, "arguments": dict | None}, folder / MARK, where="`run`", **words)
    if mark.get(VERSION, 1) < SINCE:
        sizes = fields(files, dict.fromkeys(files, int), folder / MARK, where="`files`", **words)
        return {name: {"bytes": size} for name, size in zip(files, sizes, strict=True)}
    return files


def _contents(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Return size and CRC-32 of each file. Threads read them side by side."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(_content, files.values()), strict=True))


def _content(path: Path) -> dict[str, Any]:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
        return {"bytes": file.tell(), CHECKSUM: f"{checksum:08x}"}


def last_complete(output_dir: Path) -> Path | None:
    """
    Return the newest complete checkpoint of a run, and move newer torn ones aside, to `torn-checkpoint-N`.

    Raises:
        ValueError: None is complete, and one has been: files were deleted or changed since.
    """
    found = [(int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := NAME.fullmatch(path.name))]
    torn = {}
    for _, folder in sorted(found, reverse=True):
        torn[folder] = why_incomplete(folder)
        if torn[folder] is None:
            break
    else:
        if lost := {folder: reason for folder, reason in torn.items() if (folder / MARK).is_file()}:
            folder, reason = next(iter(lost.items()))
            raise ValueError(
                f"{str(folder)!r} was whole and is not any more: {reason}. No other checkpoint is whole, and the "
                f"run would begin anew. Restore the file. To begin anew, delete {', '.join(map(str, lost))}."
            )
    for folder, reason in torn.items():
        if reason is None:
            return folder
        aside = _unused(folder.with_name(f"torn-{folder.name}"))
        folder.rename(aside)
        logger.warning(
            "%s is torn: %s. It is now %s, which can be deleted. The last whole checkpoint is used instead.",
            folder,
            reason,
            aside.name,
        )
    return None


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint, its mark first: one that a kill left half deleted is torn, and was never whole."""
    with contextlib.suppress(OSError):
        (folder / MARK).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def rotate(newest: Path, limit: int | None, best: str | None = None) -> None:
    """
    Delete old checkpoints of a run until `limit` are left. The newest and the best stay in any case.

    Torn ones that never were whole go, too: a run that is killed often would fill the disk with them.

    Steps tell the age, since a clock may jump. A later step than the newest is that of an earlier run in the folder.
    Its checkpoints count as the oldest.

    Args:
        newest (`Path`): The checkpoint that was just written.
        limit (`int`, *optional*): Number of checkpoints to keep; all without it, or at 0.
        best (`str`, *optional*): Folder of the best checkpoint.
    """
    if not limit or limit < 0:
        return
    found = {path: int(match[1]) for path in newest.parent.iterdir() if (match := NAME.fullmatch(path.name))}
    kept = {newest, newest if best is None else Path(best)} & found.keys()
    old = sorted(found.keys() - kept, key=lambda path: (found[path] < found[newest], found[path]))
    torn = [path for path in newest.parent.glob("torn-checkpoint-*") if not (path / MARK).exists()]
    for path in [*old[: max(0, len(found) - max(limit, len(kept)))], *torn]:
        remove_checkpoint(path)


def differences(then: Any, now: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Return the name and both values, cut to 60 letters, of each entry that differs between two structures."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [] if then == now else [(name, f"{then!s:.60}", f"{now!s:.60}")]
    keys = dict.fromkeys([*then, *now])
    return [found for key in keys for found in differences(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))]


def _unused(path: Path) -> Path:
    count, free = 1, path
    while free.exists():
        count, free = count + 1, path.with_name(f"{path.name}-{count + 1}")
    return free


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
