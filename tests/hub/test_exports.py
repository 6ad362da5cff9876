"""Forms of an earlier export: which files of a repository they are."""

import pytest
from teacher_models import tiny_clip

from hf_clip_kd.export import export_model
from hf_clip_kd.hub.exports import stale_forms

THERE = ["README.md", "config.json", "parity.json", "open_clip_config.json", "onnx/text_model.onnx", "onnx/mine.onnx"]


@pytest.mark.parametrize(
    ("there", "brought", "stale"),
    [
        (THERE, [], ["onnx/text_model.onnx", "open_clip_config.json", "parity.json"]),
        (THERE, ["parity.json", "onnx/text_model.onnx"], ["open_clip_config.json"]),
        (THERE, THERE, []),
        ([name for name in THERE if name != "parity.json"], [], []),
        ([], ["parity.json"], []),
    ],
    ids=["none_brought", "one_brought", "all_brought", "of_others", "new"],
)
def test_forms_that_a_push_does_not_bring_are_stale(there, brought, stale):
    assert stale_forms(there, brought) == stale


def test_all_that_an_export_adds_is_known(tmp_path):
    """The root without any form holds the model and its processor."""
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    export_model(tmp_path / "run", tmp_path / "out", ["native", "open_clip"])
    plain, out = (
        {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "run", tmp_path / "out")
    )
    assert set(stale_forms(out, plain)) == out - plain
