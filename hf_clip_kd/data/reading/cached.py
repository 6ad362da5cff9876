"""The images and captions that a teacher cache belongs to. They are not in it: its `recipe.yaml` names them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

SOURCE = ("data_dir", "data_files", "split", "image_column", "text_column", "synthetic_text_column", "label_template")


def source_of_cache(name: str, split: str, max_samples: int | None) -> dict[str, Any] | None:
    """
    How [`load_image_text`] finds the data of a teacher cache.

    Args:
        name (`str`): A folder or Hub id.
        split (`str`): What the caller asked for; `"train"`, the default, stands for that of the cache.
        max_samples (`int`, *optional*): The caller's; the cache may have fewer.

    Returns:
        `dict`: its arguments, or `None` if `name` is no teacher cache.

    Raises:
        ValueError: The cache does not tell, is of another split or of several sources.
    """
    recipe = _find_recipe(name)
    if recipe is None:
        return None
    if recipe["datasets"] is not None:
        raise ValueError(
            f"The teacher cache {name!r} was written for {len(recipe['datasets'])} sources. By its name only one can be loaded. "
            f"Pass them yourself: `datasets: {recipe['datasets']}`."
        )
    if split not in ("train", recipe["split"]):
        raise ValueError(
            f"`split={split!r}` is not that of the teacher cache {name!r}, which was written for {recipe['split']!r}. Leave it out, "
            f"or name the data: `dataset_name={recipe['dataset_name']!r}`."
        )
    samples = [count for count in (max_samples, recipe["max_train_samples"]) if count is not None]
    source = {key: recipe[key] for key in ("dataset_name", *SOURCE)}
    return source | {"max_samples": min(samples, default=None)}


def _find_recipe(name: str) -> dict[str, Any] | None:
    if os.path.isdir(name):
        path = Path(name, "recipe.yaml")
        if not Path(name, "cache.json").is_file():
            return None
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.exists(name) and _on_hub(name, "cache.json"):
        path = Path(name, "recipe.yaml")
        if _on_hub(name, "recipe.yaml"):
            path = Path(hf_hub_download(name, "recipe.yaml", repo_type="dataset"))
    else:
        return None
    if not path.is_file():
        raise ValueError(
            f"The teacher cache {name!r} does not tell which data it was written for: it has no recipe.yaml. Name the data that "
            "its author used, `dataset_name=...`, or let recipes/cache_teacher.py run over it once more, which adds the file."
        )
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _on_hub(name: str, file: str) -> bool:
    """Also without the network, where it was downloaded before."""
    if isinstance(try_to_load_from_cache(name, file, repo_type="dataset"), str):
        return True
    try:
        return HfApi().file_exists(name, file, repo_type="dataset")
    # Whatever is wrong with the id or the network, `datasets` will say it in its own words.
    except Exception:
        return False
