"""SugarCrepe: a caption, and the same with something replaced, swapped or added."""

from __future__ import annotations

from pathlib import Path

from ....recipe_io.foreign import ForeignFileError, fields, read_json
from ..cases import Case, check_images
from .base import CaptionBenchmark

CATEGORIES = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
_WORDS = {
    "allowed": "It must be a file of SugarCrepe: `{key: {filename, caption, negative_caption}}`.",
    "fix": "Pass its folder `data` with all seven files, or one of them.",
}


def read_sugarcrepe(annotations: str | Path, image_folder: str | Path) -> list[Case]:
    """
    Read SugarCrepe's files.

    Args:
        annotations (`str` or `Path`):
            Folder with `add_att.json` and the six others of `CATEGORIES`, or one such file. A file's name is the
            category.
        image_folder (`str` or `Path`):
            Folder with the images of COCO's val2017.

    Raises:
        ValueError: if a file, a field or an image is missing.
    """
    path = Path(annotations)
    files = [path / f"{name}.json" for name in CATEGORIES] if path.is_dir() else [path]
    cases = []
    for file in files:
        for key, row in read_json(file, **_WORDS).items():
            kinds = dict.fromkeys(("filename", "caption", "negative_caption"), str)
            name, right, wrong = fields(row, kinds, file, where=f"case {key!r}", **_WORDS)
            if right == wrong:
                raise ForeignFileError(file, f"case {key!r} has the same caption twice", **_WORDS)
            cases.append(Case((str(Path(image_folder, name)),), (right, wrong), file.stem))
    return check_images(cases, path, image_folder, **_WORDS)


BENCHMARK = CaptionBenchmark(
    "sugarcrepe",
    read_sugarcrepe,
    title="SugarCrepe",
    paper="https://huggingface.co/papers/2306.14610",
    measures="an object, attribute or relation replaced, swapped or added",
    files="`annotations`: folder of seven JSONs; `image_folder`: COCO val2017",
    protocol="the caption is nearer to its picture than the false caption, a tie is wrong; mean over the categories",
    scored_so_by="each category: the authors' `main_eval.py`, and CLIP_benchmark",
    main_metric="macro_acc",
    macro=True,
)
