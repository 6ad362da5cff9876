"""Conversations about images, from LLaVA's JSON files or any source of `datasets`, in one form."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc

from ..recipe_io.foreign import ForeignFileError, read_json_samples
from .reading import conversations
from .reading.cells import Locate
from .reading.conversations import FORMS, IMAGE_MARKER, TURNS
from .reading.image_lists import IMAGES, image_lists
from .reading.parts import base_split, cut
from .reading.sources import base_folder, find_files, read

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
        "images": IMAGES,
        "num_words": datasets.Value("int32"),
        "num_images": datasets.Value("int32"),
    }
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
              `conversations` or `messages`. Instead it may have `question`, and `answer` or `answers`. The commonest
              of several answers is learned;
            - any other source of [`load_image_text`] (a Hub id, parquet files, a folder of `Dataset.save_to_disk`). It
              has a column `messages`, `conversations` or `question`, and a column `images` or `image`.

            Content is a string, or a list of `{"type": "text", "text": ...}`, `{"type": "image"}` and
            `{"type": "image_url", "image_url": {"url": ...}}`. In a JSON file a part may hold its picture: a path, or
            a `data:` or `file:` URL. Another type of part, such as `video`, is an error. A number is read as text.
        image_folder (`str`, *optional*):
            Folder from which paths of images start, also those in a column of images. The default is the folder of
            the file that holds the sample.
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
        ValueError: if a sample names an image outside `image_folder`, or by an address.
    """
    if image_folder is not None and not os.path.isdir(image_folder):
        raise ValueError(
            f"`image_folder={image_folder!r}` is not a folder (seen from {os.getcwd()!r}). Paths of images start from "
            "this folder. Pass it, or leave it out for images beside the file of samples."
        )
    files = find_files(dataset_name, data_files)
    if files and all(Path(file).suffix in (".json", ".jsonl") and os.path.isfile(file) for file in files):
        return _read_json(files, image_folder, split, max_samples)
    part = read(dataset_name, data_dir=data_dir, files=files, split=split, streaming=False, load_kwargs=load_kwargs)
    dataset = part.dataset if max_samples is None else part.dataset.take(max_samples)
    folder = image_folder or base_folder(dataset_name, data_dir, files)

    def locate(path: str) -> str:
        # Rows on the Hub may name pictures of their own repository.
        if folder is None and path.startswith(f"hf://datasets/{dataset_name}@") and ".." not in path:
            return path
        return _inside(folder or os.getcwd(), path, f"rows of {str(files or data_dir or dataset_name)!r}")

    return _of_columns(dataset, locate, part.has_own_paths)


def without_images(dataset: datasets.Dataset) -> datasets.Dataset:
    """Remove every image and its marker from conversations of [`load_instruct`], to train a model without images."""

    def strip(row: dict[str, Any]) -> dict[str, Any]:
        messages = [
            dict(message, content=message["content"].replace(IMAGE_MARKER, "").lstrip("\n"))
            for message in row["messages"]
        ]
        return {"messages": messages, "images": [], "num_images": 0}

    return dataset.map(strip, desc="Removing images")


def _read_json(files: list[str], folder: str | None, split: str, max_samples: int | None) -> datasets.Dataset:
    """Read the samples of JSON files. Arrow's reader fails on an `id` or `image` of two types in one file."""
    # `datasets` caches by its arguments. Size and time make it read a changed file again.
    stamps = [(os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    try:
        dataset = datasets.Dataset.from_generator(
            _rows_of_json,
            features=FEATURES,
            gen_kwargs={"stamps": stamps, "folder": folder, "max_samples": None if "[" in split else max_samples},
            split=datasets.NamedSplit(base_split(split)),
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise (error.__cause__ if isinstance(error.__cause__, ValueError) else error) from None
    if "[" in split:
        dataset = cut(dataset, split)
    return dataset if max_samples is None else dataset.take(max_samples)


def _rows_of_json(
    stamps: list[tuple[str, int, int]], folder: str | None, max_samples: int | None
) -> Iterator[dict[str, Any]]:
    samples = ((file, *item) for file, _, _ in stamps for item in enumerate(_json_samples(file)))
    first = next(samples, None)
    if first is None:
        raise ForeignFileError(stamps[0][0], "it holds no sample", allowed=FORMS, fix="Pass another file.")
    for file, i, sample in itertools.islice(itertools.chain([first], samples), max_samples):
        where = f"sample {i} of {file!r}"
        if not isinstance(sample, dict):
            raise conversations.fault(f"The {where} is a {type(sample).__name__}")
        name = str(sample["id"]) if sample.get("id") not in (None, "") else str(i)
        where += f" (id {name!r})"
        messages, inside = conversations.read_messages(sample, where)
        images = conversations.read_images(sample, where) or inside
        if inside and inside != images:
            raise conversations.fault(f"The {where} has the images {images} in a field, and {inside} in its messages")
        cells = [image if isinstance(image, dict) else {"bytes": None, "path": image} for image in images]
        for cell in cells:
            cell["path"] = cell["path"] and _inside(folder or os.path.dirname(file), cell["path"], f"the {where}")
        yield _row(name, conversations.mark_images(messages, len(cells)), len(cells)) | {"images": cells}


def _json_samples(file: str) -> Iterator[Any]:
    return read_json_samples(file, allowed=FORMS, fix="Repair it, or pass another file: `load_instruct('a.json')`.")


def _inside(folder: str, image: str, where: str) -> str:
    """Return the path of an image that lies in `folder`, absolute."""
    if "://" in image:
        raise conversations.fault(
            f"The image {image!r} of {where} is an address",
            "Images are files, nothing is downloaded in training.",
            "Download the images, and write their paths.",
        )
    folder = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(folder, image))
    if os.path.commonpath([path, folder]) != folder:
        raise ForeignFileError(
            f"The image {image!r} of {where} lies outside of {folder!r}. All images must lie in the folder from "
            "which their paths start. Pass a folder that holds them all: `image_folder=...`."
        )
    return path


def _row(name: str, messages: list[dict[str, str]], num_images: int) -> dict[str, Any]:
    num_words = sum(len(message["content"].split()) for message in messages)
    return {"id": name, "messages": messages, "num_words": num_words, "num_images": num_images}


def _of_columns(dataset: datasets.Dataset, locate: Locate, has_own_paths: bool) -> datasets.Dataset:
    """Make the columns of `FEATURES` from another dataset. Lists of images are not copied."""
    turns = next((name for name in TURNS if name in dataset.column_names), None)
    if turns is None:
        raise ValueError(f"The dataset has the columns {dataset.column_names}. {FORMS} Rename them.")
    fields = [turns]
    if turns == "question":
        fields += [name for name in ("answer", "answers") if name in dataset.column_names]
    images = image_lists(dataset, locate, has_own_paths)
    counts = [0] * len(dataset)
    if images is not None:
        batches = images.with_format("arrow").iter(batch_size=1000)
        counts = [n or 0 for batch in batches for n in pc.list_value_length(batch["images"]).to_pylist()]

    has_images = images is not None

    # `datasets` hashes this function for its cache. The hash would follow bare names of functions through all files.
    # It does not follow those of a module, so `code` renews the cache if the reading changes.
    def rows(batch: dict[str, list], indices: list[int], code: str) -> dict[str, list]:
        made = []
        for k, i in enumerate(indices):
            name = str(batch["id"][k]) if "id" in batch and batch["id"][k] is not None else str(i)
            sample = {name: batch[name][k] for name in fields}
            where = f"row {i} of the dataset (id {name!r})"
            messages, inside = conversations.read_messages(sample, where)
            if inside and not has_images:
                problem = f"The {where} has images in its messages, and the dataset has no column of images"
                raise conversations.fault(problem)
            made.append(_row(name, conversations.mark_images(messages, counts[i]), counts[i]))
        return {key: [row[key] for row in made] for key in made[0]}

    columns = [name for name in ("id", *fields) if name in dataset.column_names]
    texts = dataset.select_columns(columns).map(
        rows,
        batched=True,
        with_indices=True,
        fn_kwargs={"code": inspect.getsource(conversations)},
        remove_columns=columns,
        features=datasets.Features({key: value for key, value in FEATURES.items() if key != "images"}),
        desc="Reading messages",
    )
    if images is None:
        images = datasets.Dataset.from_dict(
            {"images": [[]] * len(dataset)}, features=datasets.Features({"images": FEATURES["images"]})
        )
    return datasets.concatenate_datasets([texts, images], axis=1).select_columns(list(FEATURES))
