"""Conversations about images, from LLaVA's JSON files or any source of `datasets`, in one form."""

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
    "A sample has `conversations`, a list of {'from': 'human' or 'gpt', 'value': ...}, or `messages`, a list of "
    "{'role': 'user' or 'assistant', 'content': ...}, and for images `image` or `images`"
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

    LLaVA's own files need no conversion. A single `<image>` in a turn moves to its front, as in LLaVA.
    Words of the assistant before the first question are left out.
    Images without an `<image>` go in front of the first question.
    Images are not opened here. [`LlavaDataCollator`] finds a missing image, or another fault of a sample, and names
    the sample.

    Args:
        dataset_name (`str`):
            - a `.json` or `.jsonl` file, such as `"llava_v1_5_mix665k.json"`, or `"json"` with `data_files`. It holds
              a list of samples, or one sample a line. A sample has `id`, `image` (a path, several, or none) and
              `conversations` or `messages`;
            - any other source of [`load_image_text`] (a Hub id, parquet files, a folder of `Dataset.save_to_disk`). It
              has a column `messages` or `conversations`, and a column `images` or `image`. Content is a string, or a
              list of `{"type": "text", "text": ...}` and `{"type": "image"}`.
        image_folder (`str`, *optional*):
            Folder from which paths of images start. The default is the folder of the file with the samples.
        data_dir, data_files, split (*optional*):
            Folder, files and split of the data, as in [`load_image_text`].
        max_samples (`int`, *optional*):
            Number of samples to read, the first ones.
        load_kwargs:
            Arguments of `datasets.load_dataset` (`name`, `revision`, `token`, ...).

    Returns:
        `datasets.Dataset` with the columns
        - `id`;
        - `messages`, each with `role` and `content`, a string in which `<image>` stands for an image;
        - `images`, undecoded, in the order of their `<image>`;
        - `num_words` of all messages, and `num_images`.

    Raises:
        ValueError: if the data cannot be found or read, or is not of this form.
        ValueError: if a sample names an image outside `image_folder`.
    """
    if image_folder is not None and not os.path.isdir(image_folder):
        raise ValueError(
            f"`image_folder={image_folder!r}` is not a folder (seen from {os.getcwd()!r}). Paths of images start from "
            "this folder. Pass it, or leave it out for images beside the file of samples."
        )
    files = find_files(dataset_name, data_files)
    if files and all(Path(file).suffix in (".json", ".jsonl") and os.path.isfile(file) for file in files):
        return _read_json(files, image_folder or base_folder(dataset_name, data_dir, files), split, max_samples)
    dataset = read(dataset_name, data_dir=data_dir, files=files, split=split, streaming=False, load_kwargs=load_kwargs)
    if max_samples is not None:
        dataset = dataset.take(max_samples)
    return _of_columns(dataset, image_folder or base_folder(dataset_name, data_dir, files))


def without_images(dataset: datasets.Dataset) -> datasets.Dataset:
    """Remove every image and its marker from conversations of [`load_instruct`], to train a model without images."""

    def strip(row: dict[str, Any]) -> dict[str, Any]:
        messages = [
            dict(message, content=message["content"].replace(IMAGE_MARKER, "").lstrip("\n"))
            for message in row["messages"]
        ]
        return {"messages": messages, "images": [], "num_images": 0}

    return dataset.map(strip, desc="Removing images")


def _read_json(files: list[str], folder: str, split: str, max_samples: int | None) -> datasets.Dataset:
    """Read the samples of JSON files. Arrow's reader fails on an `id` or `image` of two types in one file."""
    # `datasets` caches by its arguments. Size and time make it read a changed file again.
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
                "paths. Write the path, or store images in a parquet file."
            )
        paths = [{"bytes": None, "path": _inside(folder, image, name)} for image in images]
        yield _row(name, _messages(sample, len(paths), where), len(paths)) | {"images": paths}


def _json_samples(file: str) -> Iterator[Any]:
    """Yield the samples of one file: a JSON list, or one JSON object a line. The file's suffix does not matter."""
    with open(file, encoding="utf-8-sig") as lines:
        try:
            first = next((line for line in lines if line.strip()), "")
            if first.lstrip().startswith("["):
                yield from json.loads(first + lines.read())
            else:
                yield from (json.loads(line) for line in itertools.chain([first], lines) if line.strip())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{file!r} is not JSON: {error}. It must hold a list of samples, or one sample on each line. "
                "Repair it, or pass another file: `load_instruct('samples.json')`."
            ) from error


def _inside(folder: str, image: str, name: str) -> str:
    folder = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(folder, image))
    if os.path.commonpath([path, folder]) != folder:
        raise ValueError(
            f"The image {image!r} of the sample {name!r} lies outside of {folder!r}. All images must lie in the "
            "folder from which their paths start. Pass a folder that holds them all: `image_folder=...`."
        )
    return path


def _messages(sample: dict[str, Any], num_images: int, where: str) -> list[dict[str, str]]:
    """Return the messages of one sample, with a marker for each image."""
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
    """Join the parts of a message to one string, as chat templates do."""
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
    """Make the columns of `FEATURES` from another dataset. Lists of images are not copied."""
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
    """Return each row's images as a list of undecoded images, or `None` for data without a column of images."""
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
            f"The column {column!r} holds {feature}. It must hold images or paths, single ones or lists. "
            "Rename the column of the images to `images` or `image`."
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
