"""A process that cannot import this package, like that of an export's reader."""

import os
import subprocess
import sys
from pathlib import Path


def run_isolated(code: str, folder: Path, given: str, made: str, scratch: str) -> None:
    """
    Run code with the arguments `folder`, `given` and `made` in a process of its own.

    Args:
        code (`str`): Sets `sys.modules["hf_clip_kd"] = None`, reads `given` and writes `made`.
        scratch (`str`): A folder to work in, also for the code that transformers copies.

    Raises:
        ValueError: It fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.resolve()), given, made],
        # The working directory is on the path of `python -c`.
        cwd=scratch,
        env={**os.environ, "HF_MODULES_CACHE": f"{scratch}/modules"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = done.stderr.strip().split("\n")[-1]
        raise ValueError(
            f"The export does not load without this package ({reason}). Allowed are models whose code travels with "
            "them. Leave this format out. Nothing was written."
        )


__all__ = ["run_isolated"]
