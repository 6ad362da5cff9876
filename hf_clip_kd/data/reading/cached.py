"""Images and captions of a teacher cache. The cache does not hold them: its `recipe.yaml` names them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

from ...recipe_io.foreign import fields, read_yaml

SOURCE = ("data_dir", "data_files", "split", "image_column", "text_column", "synthetic_text_column", "label_template")


def source_of_cache(name: str, split: str, max_samples: int | None) -> dict[str, Any] | None:
    """
    Return the arguments with which [`load_image_text`] loads the data of a teacher cache.

    Args:
        name (`str`): Folder or Hub id of the cache.
        split (`str`): Split that the caller asks for. The default `"train"` stands for the cache's own split.
        max_samples (`int`, *optional*): Number of samples that the caller asks for. The cache may have fewer.

    Returns:
        `dict` of arguments, or `None` if `name` is not a teacher cache.

    Raises:
        ValueError: if the cache does not name its data, has another split, or has several sources.
    """
    recipe = _find_recipe(name)
    if recipe is None:
        return None
    if recipe["datasets"] is not None:
        raise ValueError(
            f"The teacher cache {name!r} was written for {len(recipe['datasets'])} sources. "
            "The name of a cache can stand for only one source. "
            f"Pass the sources instead: `datasets: {recipe['datasets']}`."
        )
    if split not in ("train", recipe["split"]):
        raise ValueError(
            f"`split={split!r}` is not the split of the teacher cache {name!r}. "
            f"The cache was written for {recipe['split']!r}. "
            f"Leave `split` out, or name the data: `dataset_name={recipe['dataset_name']!r}`."
        )
    samples = [count for count in (max_samples, recipe["max_train_samples"]) if count is not None]
    source = {key: recipe[key] for key in ("dataset_name", *SOURCE) if key in recipe}
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
            f"The teacher cache {name!r} has no recipe.yaml, so its data is unknown. "
            "A cache can stand for its data only with this file. Name the data that its author used, "
            "`dataset_name=...`, or run recipes/cache_teacher.py on the cache again, which adds the file."
        )
    words = {"allowed": "It must be the recipe that recipes/cache_teacher.py wrote.", "fix": "Name the data itself."}
    recipe = read_yaml(path, **words)
    kinds = {"dataset_name": str | None, "split": str, "datasets": list | None, "max_train_samples": int | None}
    values = fields(recipe, kinds, path, where="the recipe", **words)
    return recipe | dict(zip(kinds, values, strict=True))


def _on_hub(name: str, file: str) -> bool:
    """Return whether the Hub has the file. A file downloaded before is found without the network."""
    if isinstance(try_to_load_from_cache(name, file, repo_type="dataset"), str):
        return True
    try:
        return HfApi().file_exists(name, file, repo_type="dataset")
    # `datasets` reports a wrong id or a missing network later.
    except Exception:
        return False
