"""The ONNX format without the optional packages: an error names them, and nothing is written."""

import sys

import pytest
from teacher_models import tiny_clip

from hf_clip_kd.export import export_model


def test_onnx_names_what_is_missing(tmp_path, monkeypatch):
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ValueError, match=r"needs onnx.*not installed; allowed .*; run `pip install hf_clip_kd\[onnx\]`"
    ):
        export_model(tmp_path / "run", tmp_path / "out", ["onnx"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
