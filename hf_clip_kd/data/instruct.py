"""Conversations about images from LLaVA's JSON files or anything `datasets` reads, as columns of one form."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from .reading.sources import base_folder, find_files, read

IMAGE_MARKER = "<image>"

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
        "images": datasets.List(datasets.Image(decode=False)),
        "num_words": datasets.Value("int32"),
        "num_images": datasets.Value("int32"),
    }
)

_ROLES = {"human": "user", "gpt": "assistant"}
_FORMS = (
    "A sample has `conversations`, a list of {'from': 'human' or 'gpt', 'value': ...}, or `messages`, a list of {'role': "
    "'user' or 'assistant', 'content': ...}, and where there are images, `image` or `images`"
)


def load_instruct(
    dataset_name: str,
    *,
    image_folder: str | None = None,
    data_dir: str | None = None,
    data_files: str | list[str] | None = None,
    split: str = "train",
    max_samples: int | None = None,
    **load_kwargs: Any,
) -> datasets.Dataset:
    """Load conversations about images, for training a VLM.

    LLaVA's own files are read as they are: a single `<image>` in a turn moves to its front, as LLaVA moves it, and what
    the assistant says before the first question is left out. Everywhere, images that no `<image>` stands for go in
    front of the first question. Images are not opened here: a missing one is met by [`LlavaDataCollator`], which names
    its sample, as it judges all else that a single sample may have wrong.

    Args:
        dataset_name (`str`):
            - a `.json` or `.jsonl` file, such as `"llava_v1_5_mix665k.json"`, or `"json"` with `data_files`: a list, or
              lines, of samples with `id`, `conversations` and `image` (a path, several, or none), or with `messages`;
            - any other source of [`load_image_text`] (a Hub id, parquet files, a folder of `Dataset.save_to_disk`) with
              a column `messages` or `conversations`, and `images` or `image`. Content is a string, or a list of
              `{"type": "text", "text": ...}` and `{"type": "image"}`.
        image_folder (`str`, *optional*):
            Where paths of images start; by default in the folder of the file that names them.
        data_dir, data_files, split (*optional*):
            As in [`load_image_text`].
        max_samples (`int`, *optional*):
            Only the first so many.
        load_kwargs:
            For `datasets.load_dataset` (`name`, `revision`, `token`, ...).

    Returns:
        `datasets.Dataset` with `id`, `messages` (of `role` and `content`, a string in which `<image>` stands for an
        image), `images` (undecoded, in the order of their `<image>`), `num_words` of all messages and `num_images`.

    Raises:
        ValueError: if the data cannot be found or read, is not of this form, or names an image outside `image_folder`.
    """
    if image_folder is not None and not os.path.isdir(image_folder):
        raise ValueError(
            f"`image_folder={image_folder!r}` is not a folder (seen from {os.getcwd()!r}). It must be the folder from "
            "which the paths of the images start. Pass it, or leave it out for images beside the file of samples."
        )
    files = find_files(dataset_name, data_files)
    if files and all(Path(file).suffix in (".json", ".jsonl") and os.path.isfile(file) for file in files):
        return _read_json(files, image_folder or base_folder(dataset_name, data_dir, files), split, max_samples)
    dataset = read(dataset_name, data_dir=data_dir, files=files, split=split, streaming=False, load_kwargs=load_kwargs)
    if max_samples is not None:
        dataset = dataset.take(max_samples)
    return _of_columns(dataset, image_folder or base_folder(dataset_name, data_dir, files))


def without_images(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same conversations with every image and its marker taken out: what a model without eyes learns from."""

    def strip(row: dict[str, Any]) -> dict[str, Any]:
        messages = [
            dict(message, content=message["content"].replace(IMAGE_MARKER, "").lstrip("\n"))
            for message in row["messages"]
        ]
        return {"messages": messages, "images": [], "num_images": 0}

    return dataset.map(strip, desc="Taking images out")


def _read_json(files: list[str], folder: str, split: str, max_samples: int | None) -> datasets.Dataset:
    """Samples of JSON files. Not by Arrow's reader, to which an `id` or `image` of two types in one file is an error."""
    # Size and time tell `datasets`, which keeps what it read, when a file has changed.
    stamps = [(os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    try:
        dataset = datasets.Dataset.from_generator(
            _json_rows,
            features=FEATURES,
            gen_kwargs={"stamps": stamps, "folder": folder, "max_samples": None if "[" in split else max_samples},
            split=datasets.NamedSplit(re.match(r"\w+", split)[0]),
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise (error.__cause__ if isinstance(error.__cause__, ValueError) else error) from None
    if "[" in split:
        part = datasets.ReadInstruction.from_spec(split).to_absolute({str(dataset.split): len(dataset)})[0]
        dataset = dataset.select(range(part.from_, part.to))
    return dataset if max_samples is None else dataset.take(max_samples)


def _json_rows(stamps: list[tuple[str, int, int]], folder: str, max_samples: int | None) -> Iterator[dict[str, Any]]:
    samples = ((file, *item) for file, _, _ in stamps for item in enumerate(_json_samples(file)))
    first = next(samples, None)
    if first is None:
        raise ValueError(f"{stamps[0][0]!r} holds no sample. {_FORMS}. Pass another file.")
    for file, i, sample in itertools.islice(itertools.chain([first], samples), max_samples):
        where = f"sample {i} of {file!r}"
        if not isinstance(sample, dict):
            raise ValueError(f"The {where} is a {type(sample).__name__}. {_FORMS}. Repair it, or pass another file.")
        name = str(sample["id"]) if sample.get("id") not in (None, "") else str(i)
        images = sample.get("images", sample.get("image")) or []
        images = [images] if isinstance(images, str) else images
        if not all(isinstance(image, str) for image in images):
            raise ValueError(
                f"An image of the {where} (id {name!r}) is not a path: {str(images)[:80]}. In a JSON file images are "
                "paths. Write the path, or store pictures in a parquet file."
            )
        paths = [{"bytes": None, "path": _inside(folder, image, name)} for image in images]
        yield _row(name, _messages(sample, len(paths), where), len(paths)) | {"images": paths}


def _json_samples(file: str) -> Iterator[Any]:
    """The samples of one file, a JSON list or one JSON object a line, whatever the file's name promises."""
    with open(file, encoding="utf-8-sig") as lines:
        try:
            first = next((line for line in lines if line.strip()), "")
            if first.lstrip().startswith("["):
                yield from json.loads(first + lines.read())
            else:
                yield from (json.loads(line) for line in itertools.chain([first], lines) if line.strip())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{file!r} is not JSON: {error}. It must hold a list of samples, or one sample on each line. Repair "
                "it, or pass another file: `load_instruct('samples.json')`."
            ) from error


def _inside(folder: str, image: str, name: str) -> str:
    folder = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(folder, image))
    if os.path.commonpath([path, folder]) != folder:
        raise ValueError(
            f"The image {image!r} of the sample {name!r} lies outside of {folder!r}. Images are read only from the "
            "folder from which their paths start. Pass one that holds them all: `image_folder=...`."
        )
    return path


def _messages(sample: dict[str, Any], num_images: int, where: str) -> list[dict[str, str]]:
    """The messages of one sample, with a marker for each image."""
    turns = sample.get("messages") or sample.get("conversations")
    if "messages" not in sample and "conversations" not in sample:
        raise ValueError(f"The {where} has the fields {list(sample)}. {_FORMS}. Rename them.")
    messages = []
    for turn in turns or []:
        if not isinstance(turn, dict) or not ({"from", "role"} & turn.keys() and {"value", "content"} & turn.keys()):
            raise ValueError(f"The {where} has the turn {str(turn)[:80]!r}. {_FORMS}. Repair it.")
        if "role" in turn:
            messages.append({"role": turn["role"], "content": _flat(turn.get("content"))})
            continue
        role, content = _ROLES.get(turn["from"], turn["from"]), _flat(turn.get("value"))
        if role == "assistant" and not any(message["role"] == "user" for message in messages):
            continue
        if content.count(IMAGE_MARKER) == 1:
            content = f"{IMAGE_MARKER}\n{content.replace(IMAGE_MARKER, '').strip()}".strip()
        messages.append({"role": role, "content": content})
    if num_images and not any(IMAGE_MARKER in message["content"] for message in messages):
        question = next((message for message in messages if message["role"] == "user"), None)
        if question is not None:
            question["content"] = f"{IMAGE_MARKER}\n" * num_images + question["content"]
    return messages


def _flat(content: str | list[dict[str, Any]] | None) -> str:
    """Content as one string; parts are joined as the chat templates join them."""
    if not isinstance(content, list):
        return content or ""
    text = ""
    for i, part in enumerate(content):
        if part["type"] == "image":
            following = content[i + 1 :]
            text += IMAGE_MARKER
            text += "\n" if following and not (following[0].get("text") or "x")[0].isspace() else ""
        else:
            text += part.get("text") or ""
    return text


def _row(name: str, messages: list[dict[str, str]], num_images: int) -> dict[str, Any]:
    num_words = sum(len(message["content"].split()) for message in messages)
    return {"id": name, "messages": messages, "num_words": num_words, "num_images": num_images}


def _of_columns(dataset: datasets.Dataset, folder: str | None) -> datasets.Dataset:
    """The same columns from a source that `datasets` read, with pictures left where they are if they are in lists."""
    turns = next((name for name in ("messages", "conversations") if name in dataset.column_names), None)
    if turns is None:
        raise ValueError(f"The dataset has the columns {dataset.column_names}. {_FORMS}. Rename them.")
    images = _image_lists(dataset, folder)
    counts = [0] * len(dataset)
    if images is not None:
        batches = images.with_format("arrow").iter(batch_size=1000)
        counts = [n or 0 for batch in batches for n in pc.list_value_length(batch["images"]).to_pylist()]

    def rows(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        made = []
        for k, i in enumerate(indices):
            name = str(batch["id"][k]) if "id" in batch and batch["id"][k] is not None else str(i)
            sample = {turns: batch[turns][k]}
            made.append(_row(name, _messages(sample, counts[i], f"row {i} of the dataset"), counts[i]))
        return {key: [row[key] for row in made] for key in made[0]}

    columns = [name for name in ("id", turns) if name in dataset.column_names]
    texts = dataset.select_columns(columns).map(
        rows,
        batched=True,
        with_indices=True,
        remove_columns=columns,
        features=datasets.Features({key: value for key, value in FEATURES.items() if key != "images"}),
        desc="Reading messages",
    )
    if images is None:
        images = datasets.Dataset.from_dict(
            {"images": [[]] * len(dataset)}, features=datasets.Features({"images": FEATURES["images"]})
        )
    return datasets.concatenate_datasets([texts, images], axis=1).select_columns(list(FEATURES))


def _image_lists(dataset: datasets.Dataset, folder: str | None) -> datasets.Dataset | None:
    """The images of each row as a list of undecoded ones, or `None` for data without a column of images."""
    column = next((name for name in ("images", "image") if name in dataset.column_names), None)
    if column is None:
        return None
    dataset = dataset.select_columns([column])
    feature, lists = dataset.features[column], datasets.Features({"images": FEATURES["images"]})
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, datasets.Value) and inner.dtype in ("string", "large_string"):

        def structs(values: str | list[str] | None) -> list[dict[str, Any]]:
            paths = [values] if isinstance(values, str) else values or []
            return [{"bytes": None, "path": _inside(folder or os.getcwd(), path, path)} for path in paths if path]

        return dataset.map(
            lambda batch: {"images": [structs(values) for values in batch[column]]},
            batched=True,
            remove_columns=[column],
            features=lists,
            desc="Reading images",
        )
    if not isinstance(inner, datasets.Image):
        raise ValueError(
            f"The column {column!r} holds {feature}. It must hold images or paths, one or a list of them in each row. "
            "Rename the columns so that `images` or `image` is the one that does."
        )
    if inner is not feature:
        return dataset.cast(datasets.Features({column: FEATURES["images"]})).rename_columns({column: "images"})

    def wrapped(table: pa.Table) -> pa.Table:
        images = table[column].combine_chunks()
        ends = pc.cumulative_sum(pc.cast(pc.is_valid(images), pa.int32()))
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        return pa.table({"images": pa.ListArray.from_arrays(offsets, images.drop_null())})

    undecoded = dataset.cast_column(column, datasets.Image(decode=False)).with_format("arrow")
    made = undecoded.map(wrapped, batched=True, remove_columns=[column], features=lists, desc="Reading images")
    return made.with_format(None)
