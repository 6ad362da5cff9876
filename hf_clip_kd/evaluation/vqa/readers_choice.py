"""Readers of the benchmarks with options: ScienceQA, SEED-Bench, MMMU."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .samples import OPTION_LETTER, SHORT_ANSWER, Sample, Source, check_images, image_path, options_text


def read_scienceqa(
    problems: str | Path, splits: str | Path, image_folder: str | Path | None = None, split: str = "test"
) -> list[Sample]:
    """
    ScienceQA's `problems.json` and `pid_splits.json`.

    Args:
        problems (`str` or `Path`): `{id: {"question", "choices", "answer", "hint", "image"}}`.
        splits (`str` or `Path`): `{"test": [id, ...], ...}`.
        image_folder (`str` or `Path`, *optional*): Holds `ID/image.png`.
        split (`str`, *optional*, defaults to `"test"`): Key of `splits`.

    Returns:
        `list[Sample]` in the order of the split. The prompt is `Context: hint` where there is a hint, the question,
        the options `A. ...` and [`OPTION_LETTER`]; the category is the subject.
    """
    call = f"read_scienceqa('problems.json', 'pid_splits.json', 'images/{split}', split={split!r})"
    source = Source(problems, "It must be ScienceQA's problems.json.", call)
    other = Source(splits, "It must be ScienceQA's pid_splits.json.", call)
    rows, ids = source.json(dict), other.json(dict)
    if split not in ids:
        raise other.error(f"it has no split {split!r}, only {sorted(ids)}")
    samples = []
    for key in ids[split]:
        if key not in rows:
            raise source.error(f"it has no problem {key!r}, which is in {splits}")
        names = ("question", "choices", "answer", "hint", "image")
        question, choices, answer, hint, image = source.fields(rows[key], f"problem {key!r}", *names)
        context = f"Context: {hint}\n" if hint else ""
        prompt = f"{context}{question}\n{options_text(choices)}{OPTION_LETTER}"
        path = image_path(image_folder, f"{key}/{image}") if image else None
        letter = chr(ord("A") + answer)
        samples.append(Sample(key, path, prompt, (letter,), tuple(choices), rows[key].get("subject", "")))
    return check_images(samples, image_folder, source)


def read_seedbench(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    The image questions of SEED-Bench's `SEED-Bench.json`: `{"questions": [{"question_id", "question", "choice_a", ...,
    "answer", "data_type", "data_id", "question_type_id"}], "question_type": {name: id}}`. Those about videos are left
    out. The prompt is the question, the options and [`OPTION_LETTER`]; the category is the name of the question type.
    """
    call = "read_seedbench('SEED-Bench.json', 'SEED-Bench-image')"
    source = Source(questions, "It must be SEED-Bench's JSON.", call)
    rows, types = source.fields(source.json(dict), "the file", "questions", "question_type")
    type_names = {number: name for name, number in types.items()}
    samples = []
    for i, row in enumerate(rows):
        names = ("question_id", "question", "answer", "data_type", "data_id", "question_type_id")
        key, question, answer, data_type, image, kind = source.fields(row, f"question {i}", *names)
        if data_type != "image":
            continue
        choices = source.fields(row, f"question {i}", "choice_a", "choice_b", "choice_c", "choice_d")
        prompt = f"{question}\n{options_text(choices)}{OPTION_LETTER}"
        category = type_names.get(kind, str(kind))
        path = image_path(image_folder, image)
        samples.append(Sample(key, path, prompt, (answer,), tuple(map(str, choices)), category))
    return check_images(samples, image_folder, source)


def read_mmmu(
    questions: str | Path, image_folder: str | Path, answers: str | Path | None = None, protocol: str = "llava"
) -> list[Sample]:
    """
    MMMU's validation split, from its parquet files or from the JSON made of them for LLaVA.

    Args:
        questions (`str` or `Path`):
            A parquet file (`id`, `question`, `options`, `answer`, `question_type`, `image_1`, ...), a folder of them,
            or `anns_for_eval.json` (`[{"id", "prompt", "question_type", "all_choices", "index2ans", "image"}]`).
        image_folder (`str` or `Path`):
            Where the images of the JSON are; those of a parquet file are written there, as `ID.png`.
        answers (`str` or `Path`, *optional*):
            `answer_dict_val.json` (`{id: {"ground_truth"}}`), which the JSON needs to be scored.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` writes options as `(A) red`, `"lmms_eval"` as `A. red`; the JSON brings its prompts.

    Returns:
        `list[Sample]` with the subject as category. A question about several images has `image=None`: a LLaVA takes
        one, and the reference gives such a question a random letter, as an empty answer gets here.
    """
    call = "read_mmmu('anns_for_eval.json', 'all_images', 'answer_dict_val.json')"
    if Path(questions).suffix == ".json":
        return _read_mmmu_json(questions, image_folder, answers, call)
    source = Source(questions, "It must be MMMU's parquet files or anns_for_eval.json.", call)
    paths = sorted(source.path.glob("**/validation*.parquet")) if source.path.is_dir() else [source.path]
    if not paths or not all(path.is_file() for path in paths):
        raise source.error("there is no such file, or no validation*.parquet in the folder")
    return [sample for path in paths for sample in _read_mmmu_parquet(path, image_folder, protocol, call)]


def _read_mmmu_parquet(path: Path, image_folder: str | Path, protocol: str, call: str) -> list[Sample]:
    import pyarrow
    import pyarrow.parquet

    source = Source(path, "It must be a parquet file of MMMU.", call)
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise source.error(f"it cannot be read ({error})") from error
    form = "({letter}) {text}" if protocol == "llava" else "{letter}. {text}"
    samples = []
    for i, row in enumerate(rows):
        names = ("id", "question", "options", "answer", "question_type")
        key, question, options, answer, kind = source.fields(row, f"row {i}", *names)
        choices = tuple(map(str, ast.literal_eval(options))) if kind == "multiple-choice" else ()
        if choices:
            prompt = f"{question}\n{options_text(choices, form)}\n{OPTION_LETTER}"
        else:
            prompt = f"{question}\n{SHORT_ANSWER}"
        pictures = set(re.findall(r"<image \d+>", question + options))
        image = None
        if len(pictures) <= 1 and row.get("image_1"):
            image = Path(image_folder) / f"{key}.png"
            if not image.is_file():
                image.parent.mkdir(parents=True, exist_ok=True)
                image.write_bytes(row["image_1"]["bytes"])
        path_or_none = None if image is None else str(image)
        samples.append(Sample(key, path_or_none, prompt, _accepted(answer), choices, _subject(key)))
    if not samples:
        raise source.error("it holds no question")
    return samples


def _read_mmmu_json(questions, image_folder, answers, call) -> list[Sample]:
    source = Source(questions, "It must be MMMU's anns_for_eval.json.", call)
    truth = {}
    if answers is not None:
        other = Source(answers, "It must be MMMU's answer_dict_val.json.", call)
        truth = other.json(dict)
    samples = []
    for i, row in enumerate(source.json(list)):
        key, prompt, kind = source.fields(row, f"question {i}", "id", "prompt", "question_type")
        choices = ()
        if kind == "multiple-choice":
            letters, texts = source.fields(row, f"question {key!r}", "all_choices", "index2ans")
            choices = tuple(str(texts[letter]) for letter in letters)
        accepted = ()
        if answers is not None:
            if key not in truth:
                raise other.error(f"it has no answer to {key!r} of {questions}")
            accepted = _accepted(other.fields(truth[key], f"answer {key!r}", "ground_truth")[0])
        image = image_path(image_folder, row["image"]) if row.get("image") else None
        samples.append(Sample(key, image, prompt, accepted, choices, _subject(key)))
    return check_images(samples, image_folder, source)


def _accepted(answer: str | list) -> tuple[str, ...]:
    """One answer or several; the parquet files write several as `['a', 'b']`."""
    if isinstance(answer, str) and answer.startswith("[") and answer.endswith("]"):
        try:
            answer = ast.literal_eval(answer)
        except (SyntaxError, ValueError):
            pass
    return tuple(map(str, answer)) if isinstance(answer, list) else (str(answer),)


def _subject(key: str) -> str:
    """`validation_Art_Theory_12` -> `Art_Theory`."""
    return "_".join(key.split("_")[1:-1])
