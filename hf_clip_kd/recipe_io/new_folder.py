"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def new_folder(output_dir: str | os.PathLike) -> Iterator[Path]:
    """
    Yield a folder to write into. It becomes `output_dir` at the end, and nothing is left of it after an error.

    Args:
        output_dir (`str` or `os.PathLike`): The new folder; empty or not there yet.

    Raises:
        ValueError: It holds files. Or it cannot be replaced: it is the working directory or a mounted disk.
    """
    output = Path(output_dir).resolve()  # else a link to a folder would be what is replaced
    if output.exists() and any(output.iterdir()):
        raise ValueError(
            f"output_dir={str(output_dir)!r} holds files already. Allowed is a new or an empty folder. Take another "
            "or remove it."
        )
    if output == Path.cwd() or output.is_mount():
        what = "the working directory" if output == Path.cwd() else "a mounted disk"
        raise ValueError(
            f"output_dir={str(output_dir)!r} is {what}, which cannot appear whole. Allowed is a new or an empty "
            "folder inside of it or elsewhere. Take another."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    # The scratch folder lies beside the new one, so renaming moves no data.
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        yield made
        made.rename(output)
