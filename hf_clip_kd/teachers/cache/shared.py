"""Caches that somebody else wrote and pushed to the Hub as a data set."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from ...models.names import is_hub_id
from . import manifest


def local_folder(name: str | Path) -> Path:
    """
    Return the folder of a cache, downloaded first if `name` is no folder but an id on the Hub.

    Raises:
        ValueError: There is neither.
    """
    folder = Path(name)
    if folder.exists() or not is_hub_id(str(name)):
        return folder
    files = [manifest.NAME, "recipe.yaml", "*.safetensors"]
    try:
        return Path(snapshot_download(str(name), repo_type="dataset", allow_patterns=files))
    # The client has errors of several families: no such id, no right to read, no network.
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"The teacher cache {str(name)!r} does not exist: there is no such folder, and the Hub gave no data set "
            f"of that id ({reason}). It must be a folder that recipes/cache_teacher.py wrote, or pushed. Write it "
            "first: `python recipes/cache_teacher.py --output_dir FOLDER ...`."
        ) from error
