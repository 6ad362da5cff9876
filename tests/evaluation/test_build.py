"""Evaluators built from their arguments, on rows of tars that could not be read."""

import pytest
from datasets import Dataset
from PIL import Image as PILImage

from hf_clip_kd.evaluation import build_evaluator


def with_faults(faults, rows=100):
    """Rows as `load_image_text` gives them of tars; the broken ones have nothing but a reason."""
    errors = [f"fault {i}" if i in faults else None for i in range(rows)]
    columns = {
        "image": [None if error else PILImage.new("RGB", (4, 4), (i, 0, 0)) for i, error in enumerate(errors)],
        "text": [None if error else f"caption {i}" for i, error in enumerate(errors)],
        "label": [None if error else i % 3 for i, error in enumerate(errors)],
        "__error__": errors,
        "__key__": [f"key{i}" for i in range(rows)],
    }
    return lambda **_: Dataset.from_dict(columns)


@pytest.mark.parametrize("task", ["retrieval", "zero_shot"])
def test_broken_rows_of_tars_are_left_out(task, caplog):
    options = {"dataset_name": "x"} | ({"class_names": list("abc")} if task == "zero_shot" else {})
    (evaluator,) = build_evaluator({task: options}, with_faults({0, 7, 50})).evaluators
    assert len(evaluator.dataset) == 97 and evaluator.dataset[0]["text"] == "caption 1"
    assert "broken row key7: fault 7" in caplog.text
    with pytest.raises(ValueError, match="6 of 100 rows are broken, the first fault 0.*At most 5%"):
        build_evaluator({task: options}, with_faults(range(6)))
