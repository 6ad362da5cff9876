"""Prompt endings, samples and references that the tests of every VQA benchmark share."""

import io
import json

import pyarrow
import pyarrow.parquet
from PIL import Image

from hf_clip_kd.evaluation.vqa import METRICS, Sample

S1 = "\nAnswer the question using a single word or phrase."
S2 = "\nAnswer with the option's letter from the given choices directly."
REFERENCE = {"answers": ["yes"], "choices": ["yes", "no"], "category": "color", "image": "1.jpg"}
# Two images, each with a yes and a no: pairs of MME and MMVP, and a group of NaturalBench.
FOUR = ({}, {"answers": ["no"]}, {"answers": ["no"], "image": "2.jpg"}, {"image": "2.jpg"})
SAMPLES = [
    Sample(1, "i/a.jpg", "Is it?" + S1, ("Yes",), category="color"),
    Sample(1, "i/a.jpg", "Is it not?" + S1, ("No",), category="color"),
]


def lines(*rows):
    """Return the rows as jsonl."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def references(name, *rows):
    """Return references of a metric: `REFERENCE`, changed by each of the rows."""
    fields = METRICS[name].reference_fields
    return [{field: ({**REFERENCE, **row})[field] for field in fields} for row in rows]


def compute(name, predictions, *rows, n_resamples=0, **options):
    """Compute a metric against `references(name, *rows)`."""
    metric = METRICS[name]()
    return metric.compute(
        predictions=predictions, references=references(name, *rows), n_resamples=n_resamples, **options
    )


def picture(colour="red", size=(4, 4)):
    """Return a picture as a parquet file holds it."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "x.png"}


def parquet(path, *rows):
    """Write the rows to a parquet file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path
