"""Crossmodal-3600: pictures from all over the world, with captions in 36 languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..recipe_io.foreign import ForeignFileError, fields, read_json_lines
from .compositional.cases import check_files

PROTOCOLS = {
    "all_captions": "each caption is a query; a picture finds one of its captions",
    "clip_benchmark": "only the first caption of each picture and language",
}
_WORDS = {
    "allowed": "It must be XM3600's `captions.jsonl`: a picture on each line, with `image/key` and "
    "`{language: {caption: [...]}}`.",
    "fix": "Pass the file out of captions.zip, and the folder with the pictures out of images.tgz.",
}


def read_xm3600(
    annotations: str | Path,
    image_folder: str | Path,
    languages: Sequence[str] | None = None,
    protocol: str = "all_captions",
) -> tuple[list[str], dict[str, list[list[str]]]]:
    """
    Read XM3600's `captions.jsonl` ([Thapliyal et al., 2022](https://huggingface.co/papers/2205.12522)).

    Args:
        annotations (`str` or `Path`): The file.
        image_folder (`str` or `Path`): Folder with `KEY.jpg` for each `image/key`.
        languages (sequence of `str`, *optional*): Codes of languages, such as `"de"`. Defaults to all in the file.
        protocol (`str`, *optional*, defaults to `"all_captions"`): A key of `PROTOCOLS`.

    Returns:
        `tuple`: paths of the pictures, and the captions of each picture by language.

    Raises:
        ValueError: if the file, a field or a picture is missing, or there is no such language or protocol.
    """
    path = Path(annotations)
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"`protocol: {protocol!r}` does not exist. There are {' and '.join(PROTOCOLS)}. "
            "Write `protocol: all_captions`."
        )
    rows = [(f"line {number}", row) for number, row in read_json_lines(path, **_WORDS)]
    if not rows:
        raise ForeignFileError(path, "it holds no picture", **_WORDS)
    fields(rows[0][1], {"image/key": str}, path, where=rows[0][0], **_WORDS)
    known = [name for name, value in rows[0][1].items() if isinstance(value, dict)]
    asked = known if languages is None else list(languages)
    if not asked or not set(asked) <= set(known):
        strange = [language for language in asked if language not in known]
        raise ForeignFileError(path, f"it has no captions in {strange or 'any language'} (but in {known})", **_WORDS)
    files, captions = [], {language: [] for language in asked}
    for where, row in rows:
        key, *blocks = fields(row, {"image/key": str} | dict.fromkeys(asked, dict), path, where=where, **_WORDS)
        files.append(str(Path(image_folder, f"{key}.jpg")))
        for language, block in zip(asked, blocks, strict=True):
            place = f"{language!r} of {where}"
            (texts,) = fields(block, {"caption": list[str]}, path, where=place, **_WORDS)
            if not texts:
                raise ForeignFileError(path, f"{place} has no caption", **_WORDS)
            captions[language].append(texts[:1] if protocol == "clip_benchmark" else texts)
    check_files(files, path, image_folder)
    return files, captions
