"""Readers of the benchmarks with free answers: VQAv2, GQA, TextVQA, VizWiz, MM-Vet."""

from __future__ import annotations

from pathlib import Path

from .samples import SHORT_ANSWER, UNANSWERABLE, Sample, Source, check_images, image_path


def read_vqav2(
    questions: str | Path, annotations: str | Path | None = None, image_folder: str | Path | None = None
) -> list[Sample]:
    """
    VQAv2's `v2_OpenEnded_mscoco_*_questions.json`, with `v2_mscoco_*_annotations.json` where there is one.

    Args:
        questions (`str` or `Path`):
            `{"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}`.
        annotations (`str` or `Path`, *optional*): Adds the ten answers, and as category the answer type.
        image_folder (`str` or `Path`, *optional*): Holds `COCO_val2014_000000000042.jpg` and the like.

    Returns:
        `list[Sample]` in the order of the file; the prompt is the question and [`SHORT_ANSWER`].
    """
    call = "read_vqav2('v2_OpenEnded_mscoco_val2014_questions.json', 'v2_mscoco_val2014_annotations.json', 'val2014')"
    source = Source(questions, "It must be a VQAv2 questions JSON.", call)
    rows, subtype = source.fields(source.json(dict), "the file", "questions", "data_subtype")
    subtype = subtype.replace("test-dev", "test")
    labels = {}
    if annotations is not None:
        other = Source(annotations, "It must be the VQAv2 annotations JSON of the same split.", call)
        for i, row in enumerate(other.fields(other.json(dict), "the file", "annotations")[0]):
            key, kind, answers = other.fields(row, f"annotation {i}", "question_id", "answer_type", "answers")
            labels[key] = (tuple(answer["answer"] for answer in answers), kind)
    samples = []
    for i, row in enumerate(rows):
        key, image, question = source.fields(row, f"question {i}", "question_id", "image_id", "question")
        if annotations is not None and key not in labels:
            raise other.error(f"it has no answers to question {key} of {questions}")
        answers, kind = labels.get(key, ((), ""))
        name = f"COCO_{subtype}_{int(image):012d}.jpg"
        samples.append(Sample(key, image_path(image_folder, name), question + SHORT_ANSWER, answers, category=kind))
    return check_images(samples, image_folder, source)


def read_gqa(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    GQA's `testdev_balanced_questions.json`: `{question_id: {"question", "imageId", "answer", "types"}}`, images
    `IMAGE_ID.jpg`. The category is the structural type; the prompt is the question and [`SHORT_ANSWER`].
    """
    source = Source(
        questions, "It must be a GQA questions JSON.", "read_gqa('testdev_balanced_questions.json', 'images')"
    )
    samples = []
    for key, row in source.json(dict).items():
        question, image = source.fields(row, f"question {key!r}", "question", "imageId")
        answers = (row["answer"],) if "answer" in row else ()
        kind = row.get("types", {}).get("structural", "")
        prompt = question + SHORT_ANSWER
        samples.append(Sample(key, image_path(image_folder, f"{image}.jpg"), prompt, answers, category=kind))
    return check_images(samples, image_folder, source)


def read_textvqa(
    annotations: str | Path, image_folder: str | Path | None = None, ocr: str | Path | None = None
) -> list[Sample]:
    """
    TextVQA's `TextVQA_0.5.1_val.json`.

    Args:
        annotations (`str` or `Path`): `{"data": [{"image_id", "question", "answers"}]}`; a test split has no answers.
        image_folder (`str` or `Path`, *optional*): Holds `IMAGE_ID.jpg`.
        ocr (`str` or `Path`, *optional*):
            `TextVQA_Rosetta_OCR_v0.2_val.json`: `{"data": [{"image_id", "ocr_tokens"}]}`. With it the prompt is
            LLaVA's and has the tokens, without it lmms-eval's. Scores of the two do not compare.

    Returns:
        `list[Sample]` in the order of the file, with the image's id as `question_id` (as LLaVA has it). The prompt is
        the question, capitalised, `Reference OCR token: t1, t2` on a line of its own, and [`SHORT_ANSWER`].
    """
    call = "read_textvqa('TextVQA_0.5.1_val.json', 'train_images', ocr='TextVQA_Rosetta_OCR_v0.2_val.json')"
    source = Source(annotations, "It must be a TextVQA 0.5.1 JSON.", call)
    tokens = {}
    if ocr is not None:
        other = Source(ocr, "It must be the Rosetta OCR JSON of the same split.", call)
        for i, row in enumerate(other.fields(other.json(dict), "the file", "data")[0]):
            image, words = other.fields(row, f"row {i}", "image_id", "ocr_tokens")
            tokens[image] = words
    samples = []
    for i, row in enumerate(source.fields(source.json(dict), "the file", "data")[0]):
        image, question = source.fields(row, f"question {i}", "image_id", "question")
        prompt = question.capitalize()
        if ocr is not None:
            if image not in tokens:
                raise other.error(f"it has no tokens of image {image!r} of {annotations}")
            prompt += f"\nReference OCR token: {', '.join(tokens[image])}"
        answers = tuple(row.get("answers", ()))
        samples.append(Sample(image, image_path(image_folder, f"{image}.jpg"), prompt + SHORT_ANSWER, answers))
    return check_images(samples, image_folder, source)


def read_vizwiz(
    annotations: str | Path, image_folder: str | Path | None = None, protocol: str = "llava"
) -> list[Sample]:
    """
    VizWiz's `val.json` or `test.json`: `[{"image", "question", "answers": [{"answer"}], "answer_type"}]`, the last two
    not in test. The `question_id` is the image's name, the category the answer type; the prompt is the question,
    [`UNANSWERABLE`] and [`SHORT_ANSWER`]. `protocol="lmms_eval"` capitalises the question.
    """
    source = Source(annotations, "It must be a VizWiz VQA annotations JSON.", "read_vizwiz('val.json', 'val')")
    samples = []
    for i, row in enumerate(source.json(list)):
        image, question = source.fields(row, f"question {i}", "image", "question")
        question = question.capitalize() if protocol == "lmms_eval" else question
        prompt = question + UNANSWERABLE + SHORT_ANSWER
        answers = tuple(answer["answer"] for answer in row.get("answers", ()))
        kind = row.get("answer_type", "")
        samples.append(Sample(image, image_path(image_folder, image), prompt, answers, category=kind))
    return check_images(samples, image_folder, source)


def read_mmvet(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    MM-Vet's `mm-vet.json`: `{"v1_0": {"imagename", "question", "answer", "capability"}}`. The prompt is the bare
    question, the category its capabilities. It is scored by a paid judge, so there is a writer and no metric.
    """
    source = Source(questions, "It must be MM-Vet's JSON.", "read_mmvet('mm-vet.json', 'images')")
    samples = []
    for key, row in source.json(dict).items():
        image, question = source.fields(row, f"question {key!r}", "imagename", "question")
        answers = (row["answer"],) if "answer" in row else ()
        kind = ",".join(row.get("capability", ()))
        samples.append(Sample(key, image_path(image_folder, image), question, answers, category=kind))
    return check_images(samples, image_folder, source)
