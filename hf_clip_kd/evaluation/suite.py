"""Suites of data sets in CLIP_benchmark's WebDataset layout, and the means that DataComp and VTAB report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from textwrap import shorten
from typing import Any

from ..recipe_io.foreign import ForeignFileError, read_text

logger = logging.getLogger(__name__)

CLASS_NAMES, TEMPLATES, KIND = "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"
KINDS = ("classification", "retrieval", "multilabel")
RECALL = "mean_per_class_recall"
RETRIEVALS = ("image_retrieval_recall@1", "text_retrieval_recall@1")
# Data sets by their names without `wds_` and `_test`. DataComp's `tasklist.yml` has the 38 and their main metrics.
BY_RECALL = ("vtab-caltech101", "fgvc_aircraft", "vtab-flowers", "vtab-pets")
SHIFTS = ("imagenet_sketch", "imagenetv2", "imagenet-a", "imagenet-o", "imagenet-r", "objectnet")
_COMMON = (
    "vtab-caltech101", "vtab-cifar100", "vtab-clevr_count_all", "vtab-clevr_closest_object_distance", "vtab-dtd",
    "vtab-eurosat", "vtab-kitti_closest_vehicle_distance", "vtab-flowers", "vtab-pets", "vtab-pcam", "vtab-resisc45",
    "sun397", "vtab-svhn",
)  # fmt: skip
VTAB = (
    *_COMMON, "vtab-diabetic_retinopathy", "vtab-dmlab", "vtab-dsprites_label_orientation",
    "vtab-dsprites_label_x_position", "vtab-smallnorb_label_azimuth", "vtab-smallnorb_label_elevation",
)  # fmt: skip
FOUND = ("flickr30k", "mscoco_captions")  # CLIP_benchmark's names of DataComp's two retrieval sets.
# DataComp judges these by groups of images, by F1 or by sets of images, which labels alone do not give.
UNJUDGED = ("wilds-iwildcam", "wilds-fmow", "dollar_street", "geode", "winogavil")
DATACOMP = (
    *_COMMON, *SHIFTS, *FOUND, *UNJUDGED, "cifar10", "country211", "fgvc_aircraft", "food101", "gtsrb", "imagenet1k",
    "mnist", "voc2007", "renderedsst2", "cars", "stl10", "wilds-camelyon17",
)  # fmt: skip


def suite_blocks(folder: str | Path) -> dict[str, dict[str, Any]]:
    """
    Return the block `evaluation` for all data sets of a folder.

    A data set is a folder with `test/*.tar`, at any depth. Its name is that of the folder, without `wds_` and `_test`,
    as in CLIP_benchmark and DataComp. Images with classes have `cls` in their tars, `classnames.txt` and
    `zeroshot_classification_templates.txt`. Images with captions have `txt` in their tars, one caption a line, and
    `retrieval` in `dataset_type.txt`. Sets with several labels per image are left out, with a warning.

    Args:
        folder (`str` or `Path`): Folder of the suite.

    Returns:
        `dict`: name to block, in the order of the names, as [`build_evaluator`] takes it.

    Raises:
        ValueError: The folder has no data set, two have the same name, or one has another type than these.
    """
    blocks: dict[str, dict[str, Any]] = {}
    for place in sorted({tar.parents[1] for tar in Path(folder).glob("**/test/*.tar")}):
        name = _name(place.relative_to(folder) if place != Path(folder) else Path(place.name))
        kind = _kind(place / KIND)
        if name in blocks:
            raise ValueError(
                f"`suite={str(folder)!r}` has two data sets that are called {name!r}, the second in {place}. Names "
                "without `wds_` and `_test` must differ. Rename a folder."
            )
        if kind == "multilabel":
            logger.warning("Left out of the suite, %s: its images have several labels each.", place)
            continue
        data = {"dataset_name": "webdataset", "data_files": str(place / "test" / "*.tar")}
        if kind == "retrieval":
            blocks[name] = {"task": "retrieval", **data, "text_column": "txt", "caption_lines": True}
        else:
            texts = {"class_names": str(place / CLASS_NAMES), "templates": str(place / TEMPLATES)}
            blocks[name] = {"task": "zero_shot", **data, "label_column": "cls", **texts}
    if not blocks:
        raise ValueError(
            f"`suite={str(folder)!r}` holds no data set. It must be a folder of folders in CLIP_benchmark's layout: "
            f"`NAME/test/*.tar` with {CLASS_NAMES} and {TEMPLATES}. Pass such a folder."
        )
    return blocks


def suite_means(scores: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """
    Return the means over the data sets of a suite.

    - `average_acc1`: mean `acc1` of all classification sets.
    - `vtab_average`: the same of VTAB's 19 sets ([VTAB](https://huggingface.co/papers/1910.04867)).
    - `datacomp_average`: mean main metric of DataComp's sets ([DataComp](https://huggingface.co/papers/2304.14108)).
      Its groups are `/vtab`, `/imagenet_shifts` and `/retrieval`. The main metric is `acc1`, and the mean recall per
      class of four sets. For retrieval it is the mean of both recalls at 1. Five sets are judged by other
      numbers. They count in no mean of DataComp's.

    Args:
        scores (`Mapping`): Name of each data set to its metrics.

    Returns:
        `tuple`: the means, and for each the data sets that it is of and how many there would be (`sets`, `of`). A mean
        of no set is left out.
    """
    plain = {name: found["acc1"] for name, found in scores.items() if "acc1" in found}
    main = {name: _main_metric(name, found) for name, found in scores.items() if name not in UNJUDGED}
    groups = {
        "average_acc1": (plain, tuple(plain)),
        "vtab_average": (plain, VTAB),
        "datacomp_average": (main, DATACOMP),
        "datacomp_average/vtab": (main, _COMMON),
        "datacomp_average/imagenet_shifts": (main, SHIFTS),
        "datacomp_average/retrieval": (main, (*FOUND, "winogavil")),
    }
    means, parts = {}, {}
    for name, (values, members) in groups.items():
        sets = [member for member in members if member in values]
        if sets:
            means[name] = mean(values[member] for member in sets)
            parts[name] = {"sets": sets, "of": len(members)}
    return means, parts


def _main_metric(name: str, found: Mapping[str, float]) -> float:
    if "acc1" not in found:
        return mean(found[metric] for metric in RETRIEVALS)
    return found[RECALL if name in BY_RECALL else "acc1"]


def _name(place: Path) -> str:
    return "-".join(part.removeprefix("wds_").removesuffix("_test") for part in place.parts)


def _kind(path: Path) -> str:
    """Return what a data set holds, by its `dataset_type.txt`. A set of images with classes has no such file."""
    if not path.is_file():
        return "classification"
    words = {"allowed": f"It must say {' or '.join(KINDS)}.", "fix": "Correct it, or delete it for classes."}
    kind = read_text(path, **words).strip().lower()
    if kind not in KINDS:
        raise ForeignFileError(path, f"it says {shorten(kind, 40)!r}", **words)
    return kind
