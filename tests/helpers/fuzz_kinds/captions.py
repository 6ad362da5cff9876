"""Images with captions: tars, tables, JSON, Parquet and folders."""

import gzip
import io
import json
import tarfile
from functools import partial

import hf_clip_kd as kd
from hf_clip_kd.data.reading.images import BrokenImageError, decode_image
from hf_clip_kd.data.reading.tars import ERROR, read_tar

from .kind import Kind, png


def write_tar(folder, packed=False):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in range(3):
            parts = {"png": png(i), "txt": f"a red cat {i}".encode(), "json": json.dumps({"id": i}).encode()}
            for ending, data in parts.items():
                member = tarfile.TarInfo(f"{i:03d}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    data = buffer.getvalue()
    (folder / "a.tar").write_bytes(gzip.compress(data, mtime=0) if packed else data)


def read_plain_tar(folder):
    with open(folder / "a.tar", "rb") as file:
        rows = list(read_tar(file, str(folder / "a.tar")))
    for row in rows:
        assert row["__key__"] and isinstance(row[ERROR], str | None), row
    return rows


CAPTIONS = [("0.png", "a red cat"), ("1.png", 'two "blue" dogs, 3'), ("2.png", "grün"), ("3.png", "one")]


def write_pictures(folder):
    for i, (name, _) in enumerate(CAPTIONS):
        (folder / name).write_bytes(png(i))


def write_table(name, mark=None):
    def write(folder):
        write_pictures(folder)
        if mark is not None:
            lines = [mark.join(("file_name", "text")), *(f'{file}{mark}"{text}"' for file, text in CAPTIONS)]
            lines[2] = lines[2].replace('"blue"', '""blue""')
            text = "\n".join(lines) + "\n"
        else:
            rows = [{"file_name": file, "text": text} for file, text in CAPTIONS]
            text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")

    return write


def write_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": png(i), "path": name}, "text": text} for i, (name, text) in enumerate(CAPTIONS)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")


def read_rows(name, folder, **arguments):
    """Read a file as data of a training, and decode its pictures as the collator does."""
    arguments = (
        {"image_column": "file_name"} | arguments if name.endswith(("csv", "tsv", "json", "jsonl")) else arguments
    )
    rows = []
    for row in kd.load_image_text(str(folder / name), cache_dir=str(folder / ".cache"), **arguments):
        try:
            decode_image(row["image"])
            texts = row["text"] if isinstance(row["text"], list) else [row["text"]]
            assert all(isinstance(text, str | None) for text in texts), row
            "".join(filter(None, texts)).encode()
        except BrokenImageError as error:
            if "MemoryError" in str(error):
                raise MemoryError(str(error)) from error
        rows.append(row)
    return [row | {"image": None} for row in rows]


KINDS = {
    "tar": Kind("tars", write_tar, read_plain_tar, whole=True),
    "tar, packed": Kind("tars", partial(write_tar, packed=True), read_plain_tar, whole=True),
    "rows of a tar": Kind("tars", write_tar, partial(read_rows, "a.tar"), whole=True),
    "rows of a CSV": Kind(
        "tables of images and captions", write_table("a.csv", ","), partial(read_rows, "a.csv"), spared=(".png",)
    ),
    "rows of a TSV": Kind(
        "tables of images and captions", write_table("a.tsv", "\t"), partial(read_rows, "a.tsv"), spared=(".png",)
    ),
    "rows of a JSON": Kind(
        "tables of images and captions", write_table("a.json"), partial(read_rows, "a.json"), spared=(".png",)
    ),
    "rows of JSON lines": Kind(
        "tables of images and captions", write_table("a.jsonl"), partial(read_rows, "a.jsonl"), spared=(".png",)
    ),
    "rows of a Parquet": Kind(
        "tables of images and captions", write_parquet, partial(read_rows, "a.parquet"), whole=True
    ),
    "rows of a folder with a CSV": Kind(
        "tables of images and captions",
        write_table("metadata.csv", ","),
        partial(read_rows, ""),
        by_folder=True,
        spared=(".png",),
    ),
    "rows of a folder with JSON lines": Kind(
        "tables of images and captions",
        write_table("metadata.jsonl"),
        partial(read_rows, ""),
        by_folder=True,
        spared=(".png",),
    ),
}
