"""A cache that somebody else wrote and pushed to the Hub as a data set."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from . import manifest

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(name: str | Path) -> Path:
    """
    The folder of a cache, downloaded first if `name` is no folder but an id on the Hub.

    Raises:
        ValueError: There is neither.
    """
    folder = Path(name)
    if folder.exists() or not HUB_ID.fullmatch(str(name)):
        return folder
    files = [manifest.NAME, "recipe.yaml", "*.safetensors"]
    try:
        return Path(snapshot_download(str(name), repo_type="dataset", allow_patterns=files))
    # No such id, no right to read, no network: the client has an error of another family for each.
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"The teacher cache {str(name)!r} does not exist: there is no such folder, and the Hub gave no data set of that id "
            f"({reason}). It must be a folder that recipes/cache_teacher.py wrote, or pushed. Write it first: "
            "`python recipes/cache_teacher.py --output_dir FOLDER ...`."
        ) from error
