"""Files of the DocVQA challenge: questions about documents and infographics, and answers for its server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_clip_kd.evaluation.vqa.files import (
    SHORT_ANSWER,
    Sample,
    Source,
    check_ids,
    check_images,
    image_path,
    pair_answers,
    write_json,
)
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture


def read_documents(
    questions: str | Path, image_folder: str | Path | None, *, image_field: str, type_field: str, call: str
) -> list[Sample]:
    """
    Read questions of a task of the challenge, from its own JSON or from parquet files with the same columns.

    Args:
        questions (`str` or `Path`):
            `{"data": [{"questionId", "question", "answers", IMAGE_FIELD, TYPE_FIELD}]}`, or a parquet file, or a
            folder of `validation*.parquet`. Test splits have no answers.
        image_folder (`str` or `Path`, *optional*):
            Folder with the images of the JSON. Images of parquet files are written there, and need it.
        image_field, type_field (`str`):
            Names of the file of the image in the JSON, and of the list of types.
        call (`str`):
            Correct call of the reader, for errors.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the question and [`SHORT_ANSWER`], the category all
        types of the question.

    Raises:
        ValueError: if a file, a field or the first image is missing.
    """
    source = Source(questions, "It must be the challenge's JSON, or its questions as parquet files.", call)
    from_json = source.path.suffix == ".json"
    samples = []
    for file, where, row in _json_rows(source) if from_json else parquet_rows(source, "validation*.parquet"):
        kinds = {"questionId": int, "question": str, "answers": list[str] | None, type_field: list[str] | None}
        key, question, answers, types = file.fields(row, where, **kinds)
        if from_json:
            image = image_path(image_folder, file.fields(row, where, **{image_field: str})[0])
        elif image_folder is None:
            raise source.error("it holds the images themselves, and `image_folder` names no place for them")
        else:
            image = stored_picture(picture_bytes(file, row, "image", where), image_folder)
        # The names of metrics have their own slashes.
        category = ",".join(types or ()).replace("/", "-")
        samples.append(Sample(key, image, question + SHORT_ANSWER, tuple(answers or ()), category=category))
    return check_images(check_ids(samples, source), image_folder, source)


def _json_rows(source: Source) -> Iterator[tuple[Source, str, dict]]:
    (rows,) = source.fields(source.json(dict), "the file", data=list)
    return ((source, f"question {i}", row) for i, row in enumerate(rows))


def write_documents(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Write `[{"questionId", "answer"}]` for the challenge's [server](https://rrc.cvc.uab.es/?ch=17)."""
    pairs = pair_answers(samples, answers)
    write_json(path, [{"questionId": sample.question_id, "answer": answer} for sample, answer in pairs])
