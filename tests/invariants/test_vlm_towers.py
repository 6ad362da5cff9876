"""Towers of vision-language models as teachers: the table in docs/teachers.md, each row tried with random weights."""

import pytest
import torch
from vlm_towers import GRID, OF_TIMM, OF_TRANSFORMERS, build, pixels_with_a_spot

from hf_clip_kd.losses.features import FeatureRequest
from hf_clip_kd.teachers.clip import CLIPTeacher
from recipes.maintenance.tables.vlm_towers import TOWERS

WORKS = [tower for tower in TOWERS if tower.prefix is not None]
REFUSED = [tower for tower in TOWERS if tower.prefix is None]
ROW, COLUMN = 1, 2


def test_every_row_is_tried():
    assert [tower.name for tower in TOWERS] == [*OF_TRANSFORMERS, *(f"timm:{name}" for name in OF_TIMM)]


@pytest.mark.slow
@pytest.mark.parametrize("tower", WORKS, ids=lambda tower: tower.name)
def test_tokens_lie_on_the_grid_row_by_row(tower):
    """A patch of the image that changes moves its own token the most, before and behind the layers."""
    model, processor = build(tower.name)
    teacher = CLIPTeacher(model, processor=processor)
    assert not teacher.dims.has_text
    pixels = pixels_with_a_spot(processor.size["height"], ROW, COLUMN)
    for layer in (-2, -1):
        teacher.prepare(FeatureRequest(teacher_layer=layer))
        features = teacher(pixels)
        rows, columns = features.image_grid
        assert rows == columns and rows >= GRID
        assert features.image_tokens.shape == (2, rows * columns, teacher.dims.token_dim)
        moved = (features.image_tokens[1] - features.image_tokens[0]).norm(dim=-1).unflatten(0, (rows, columns))
        # A finer grid has several tokens in the patch.
        parts = moved.unflatten(1, (GRID, -1)).unflatten(0, (GRID, -1)).sum(dim=(1, 3))
        assert divmod(parts.argmax().item(), GRID) == (ROW, COLUMN), layer
    assert features.image_embeds.shape == (2, teacher.dims.embed_dim)
    if not tower.name.startswith("timm:"):
        with torch.no_grad():
            states = model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        states = states.reshape(2, -1, states.shape[-1])
        assert states.shape[1] == tower.prefix + rows * columns
        teacher.prepare(FeatureRequest(teacher_layer=-2))
        torch.testing.assert_close(teacher(pixels).image_tokens, states[:, tower.prefix :])
    else:
        assert model.config.num_prefix_tokens == tower.prefix


@pytest.mark.slow
@pytest.mark.parametrize("tower", REFUSED, ids=lambda tower: tower.name)
def test_the_others_are_refused_before_the_training(tower):
    model, processor = build(tower.name)
    with pytest.raises(ValueError, match="no model that embeds images|cannot be run|gives no tokens"):
        CLIPTeacher(model, processor=processor).prepare(FeatureRequest(teacher_layer=-2))
