"""DocVQA: the mean of ANLS, overall and by type."""

import pytest
from vqa_benchmarks import compute


def test_numbers_by_hand():
    rows = [
        {"answers": ["march", "March 3"], "category": "form"},
        {"answers": ["kitten"], "category": "form"},
        {"answers": ["no"], "category": "layout"},
    ]
    # "MARCH" is exact, "sitting" shares 4 of 7 characters, "yes" shares none.
    for protocol in ("llava", "lmms_eval"):
        found = compute("docvqa", ["MARCH", "sitting", "yes"], *rows, protocol=protocol)
        assert found["scores"] == pytest.approx([1, 4 / 7, 0])
        assert found["anls"] == pytest.approx(11 / 21)
        assert (found["form/anls"], found["layout/anls"]) == (pytest.approx(11 / 14), 0)
