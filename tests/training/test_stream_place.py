"""The place in a stream: each process writes its own into a checkpoint that can be resumed."""

from types import SimpleNamespace

import pytest

from hf_clip_kd.training.stream_place import StreamPlace


@pytest.mark.parametrize("save_only_model", [False, True])
def test_a_checkpoint_of_the_model_alone_has_no_place(save_only_model, tmp_path):
    """Only rank 0 writes into such a checkpoint, and may not even have made its folder."""
    place = StreamPlace(SimpleNamespace(process_index=1, save_only_model=save_only_model))
    place.loader = SimpleNamespace(state_dict=lambda: {"row": 3})
    folder = tmp_path / "checkpoint-1"
    if not save_only_model:
        folder.mkdir()
    place.save(folder)
    assert [path.name for path in tmp_path.rglob("*.json")] == ([] if save_only_model else ["stream_state_1.json"])
