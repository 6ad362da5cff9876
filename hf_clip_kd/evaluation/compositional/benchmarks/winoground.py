"""Winoground: two pictures with two captions of the same words in another order."""

from __future__ import annotations

from pathlib import Path

from ....recipe_io.foreign import fields, read_json_lines
from ..cases import Case, check_images
from .base import CaptionBenchmark

_WORDS = {
    "allowed": "It must be Winoground's `examples.jsonl`: one case with `image_0`, `caption_0`, `image_1` and "
    "`caption_1` on each line.",
    "fix": "Pass the file, and the folder of the unpacked `images.zip`.",
}


def read_winoground(annotations: str | Path, image_folder: str | Path) -> list[Case]:
    """
    Read Winoground's `examples.jsonl`.

    Args:
        annotations (`str` or `Path`):
            A case on each line: `image_0`, `image_1`, `caption_0`, `caption_1`, and `collapsed_tag`, the category.
            Names of images lack their `.png`.
        image_folder (`str` or `Path`):
            Folder with the images.

    Raises:
        ValueError: if the file, a field or an image is missing.
    """
    path, cases = Path(annotations), []
    kinds = dict.fromkeys(("image_0", "image_1", "caption_0", "caption_1"), str) | {"collapsed_tag": str | None}
    for number, row in read_json_lines(path, **_WORDS):
        *names, first, second, tag = fields(row, kinds, path, where=f"line {number}", **_WORDS)
        files = [Path(image_folder, name if Path(name).suffix else f"{name}.png") for name in names]
        cases.append(Case(tuple(map(str, files)), (first, second), tag or ""))
    return check_images(cases, path, image_folder, **_WORDS)


BENCHMARK = CaptionBenchmark(
    "winoground",
    read_winoground,
    title="Winoground",
    paper="https://huggingface.co/papers/2204.03162",
    measures="the same words in another order, for a second picture",
    files="`annotations`: examples.jsonl; `image_folder`: images.zip, unpacked",
    protocol="text, image and group score: all comparisons of a case are right; a tie is wrong",
    scored_so_by="the paper, equations 1 to 3; CLIP_benchmark",
    main_metric="acc",
    two_images=True,
)
