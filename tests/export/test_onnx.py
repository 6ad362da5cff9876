"""ONNX towers run in onnxruntime with any batch, and compute what the model computes; in 8 bits nearly so."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch
from teacher_models import tiny_clip

from hf_clip_kd.export import export_model
from hf_clip_kd.hub.exports import stale_forms
from hf_clip_kd.models import load_clip
from hf_clip_kd.models.towers.tokens import pooled


def session(folder, name):
    return onnxruntime.InferenceSession(str(folder / "onnx" / f"{name}.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "test-resnet", "shapes-xcit"])
@torch.no_grad()
def test_towers_with_any_batch(kind, tmp_path):
    torch.manual_seed(0)
    model, processor = tiny_clip() if kind == "clip" else load_clip(kind)
    model.eval().save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    report = export_model(tmp_path / "run", tmp_path / "out", ["onnx"], quantize=True)
    assert set(report) == {"onnx", "onnx-int8"}
    assert report["onnx"]["real_images"] < 1e-5 < report["onnx-int8"]["real_images"]
    side, text = model.config.vision_config.image_size, model.config.text_config
    for batch in (1, 3, 7):
        pixels = torch.randn(batch, 3, side, side)
        ids = torch.randint(text.vocab_size - 2, (batch, text.max_position_embeddings))
        ids[:, -1] = text.eos_token_id
        for name, given, expected in (
            ("vision_model", {"pixel_values": pixels}, pooled(model.get_image_features(pixels))),
            ("text_model", {"input_ids": ids}, pooled(model.get_text_features(ids))),
        ):
            arrays = {key: value.numpy() for key, value in given.items()}
            (found,) = session(tmp_path / "out", name).run(None, arrays)
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=1e-4)
            (small,) = session(tmp_path / "out", f"{name}_int8").run(None, arrays)
            assert torch.cosine_similarity(torch.from_numpy(small), expected).min() > 0.9
    whole, small = (
        (tmp_path / "out" / "onnx" / f"text_model{suffix}.onnx").stat().st_size for suffix in ("", "_int8")
    )
    assert small < whole
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.onnx")}
    assert {"parity.json", *names} == set(stale_forms(["parity.json", *names], []))


def test_onnx_names_what_is_missing(tmp_path, monkeypatch):
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ValueError, match=r"needs onnx.*not installed. Allowed .*. Run `pip install hf_clip_kd\[onnx\]`"
    ):
        export_model(tmp_path / "run", tmp_path / "out", ["onnx"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
