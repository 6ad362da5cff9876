"""ARO: attribution, relation and order of words, in four tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....recipe_io.foreign import ForeignFileError, fields, read_json
from ..cases import Case, check_images
from .base import CaptionBenchmark

PAPER = "https://huggingface.co/papers/2210.01936"
# Symmetric or rare relations, which the authors leave out of their mean.
_LEFT_OUT = Path(__file__).parents[2] / "data" / "aro_left_out.json"
_BOX = dict.fromkeys(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), int)
_PAIR = {
    "allowed": "It must be ARO's list of `{image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, "
    "false_caption}`, with `relation_name` or `attributes`.",
    "fix": "Pass visual_genome_relation.json or visual_genome_attribution.json.",
}
_ORDER = {
    "allowed": "It must be the list of `{image, caption_options}` that ARO's classes COCO_Order and Flickr30k_Order "
    "hold as `test_cases`, the true caption first.",
    "fix": "Write it there: `json.dump(COCO_Order(...).test_cases, open('coco_order.json', 'w'))`.",
}


def read_relation(annotations: str | Path, image_folder: str | Path) -> list[Case]:
    """
    Read ARO's `visual_genome_relation.json`. The category is the relation.

    Args:
        annotations (`str` or `Path`): The file.
        image_folder (`str` or `Path`): Folder with the images of Visual Genome, of which GQA has a part.

    Raises:
        ValueError: if the file, a field or an image is missing.
    """
    return _read_pairs(annotations, image_folder, {"relation_name": str}, lambda relation: relation)


def read_attribution(annotations: str | Path, image_folder: str | Path) -> list[Case]:
    """Read ARO's `visual_genome_attribution.json`, as [`read_relation`]. The category is the pair of attributes."""
    return _read_pairs(annotations, image_folder, {"attributes": list[str]}, "_".join)


def _read_pairs(annotations: str | Path, image_folder: str | Path, kind: dict[str, Any], name: Any) -> list[Case]:
    path, cases = Path(annotations), []
    kinds = {"image_path": str, "true_caption": str, "false_caption": str} | _BOX | kind
    for i, row in enumerate(read_json(path, list, **_PAIR)):
        image, right, wrong, x, y, width, height, category = fields(row, kinds, path, where=f"case {i}", **_PAIR)
        if right == wrong:
            raise ForeignFileError(path, f"case {i} has the same caption twice", **_PAIR)
        if min(width, height) < 1 or max(abs(x), abs(y), width, height) > 10**6:
            raise ForeignFileError(path, f"case {i} has the box {[x, y, width, height]}", **_PAIR)
        box = (x, y, x + width, y + height)
        cases.append(Case((str(Path(image_folder, image)),), (right, wrong), name(category), box))
    return check_images(cases, path, image_folder, **_PAIR)


def read_order(annotations: str | Path, image_folder: str | Path) -> list[Case]:
    """
    Read test cases of ARO's COCO-Order or Flickr30k-Order.

    The authors shuffle the words of the captions when they load them, with a tagger of spaCy. So the file holds what
    their classes made. A shuffled caption that equals the true one is left out.

    Args:
        annotations (`str` or `Path`): List of `{image, caption_options}`, the true caption first.
        image_folder (`str` or `Path`): Folder with the images of COCO or of Flickr30k.

    Raises:
        ValueError: if the file, a field or an image is missing.
    """
    path, cases = Path(annotations), []
    for i, row in enumerate(read_json(path, list, **_ORDER)):
        image, captions = fields(row, {"image": str, "caption_options": list[str]}, path, where=f"case {i}", **_ORDER)
        if len(captions) < 2:
            raise ForeignFileError(path, f"case {i} has {len(captions)} captions", **_ORDER)
        cases.append(Case((str(Path(image_folder, image)),), tuple(dict.fromkeys(captions))))
    return check_images(cases, path, image_folder, **_ORDER)


def _benchmark(name: str, read: Any, title: str, measures: str, files: str, **options: Any) -> CaptionBenchmark:
    return CaptionBenchmark(
        name, read, title=title, measures=measures, files=files, paper=PAPER, by_category=False, **options
    )


BENCHMARKS = (
    _benchmark(
        "vg_relation",
        read_relation,
        "ARO: VG-Relation",
        "two objects in exchanged roles",
        "`annotations`: visual_genome_relation.json; `image_folder`: its images",
        protocol="the box of the picture is nearer to the true caption; mean over relations that are not symmetric",
        scored_so_by="the authors' notebook",
        main_metric="macro_acc",
        macro=True,
        left_out=frozenset(read_json(_LEFT_OUT, list, allowed="It must hold relations.", fix="Install again.")),
    ),
    _benchmark(
        "vg_attribution",
        read_attribution,
        "ARO: VG-Attribution",
        "two objects with exchanged attributes",
        "`annotations`: visual_genome_attribution.json; `image_folder`: its images",
        protocol="the box of the picture is nearer to the true caption; mean over pairs of attributes of 25 cases",
        scored_so_by="the authors' notebook",
        main_metric="macro_acc",
        macro=True,
        fewest=25,
    ),
    *(
        _benchmark(
            name,
            read_order,
            f"ARO: {title}-Order",
            "words of a caption shuffled in four ways",
            f"`annotations`: {name}.json of the authors' test cases; `image_folder`: {images}",
            protocol="the picture is nearest to the true caption of five; a tie is wrong",
            scored_so_by="the authors' `main_aro.py` (precision at 1), but there a tie is right",
            main_metric="text_acc",
        )
        for name, title, images in (
            ("coco_order", "COCO", "COCO 2014"),
            ("flickr30k_order", "Flickr30k", "Flickr30k"),
        )
    ),
)
