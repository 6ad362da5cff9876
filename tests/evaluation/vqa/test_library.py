"""The library `evaluate` is found beside a script of its name."""

import sys

import pytest

from hf_clip_kd.evaluation.vqa.library import import_evaluate


def test_library_is_found_behind_a_script_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text("raise RuntimeError('the script')")
    for module in [name for name in sys.modules if name.split(".")[0] == "evaluate"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    assert hasattr(import_evaluate(), "EvaluationModule")
    assert sys.path[0] == str(tmp_path)
    monkeypatch.setitem(sys.modules, "evaluate", object())
    with pytest.raises(ImportError, match="not the library"):
        import_evaluate()
