"""C score: points that are found or not, by hand, and the objects of `shapes`."""

import pytest
import torch

from hf_clip_kd.data.shapes import SHAPES_CLASS_NAMES
from hf_clip_kd.data.shapes.instruct import scene_symbols
from hf_clip_kd.data.shapes.scenes import draw_scenes
from hf_clip_kd.evaluation.representation import Keypoint, c_score, object_keypoints


def grid_with(place, vector, side=4):
    tokens = torch.zeros(side * side, 3)
    tokens[:, 2] = 1
    tokens[place] = torch.tensor(vector)
    return tokens


def test_points_by_hand():
    """The eye moves from token 0 to 15 and is found. The ear looks like the eye of the second image."""
    first, second = grid_with(0, [1.0, 0, 0]), grid_with(15, [2.0, 0, 0])
    first[5] = torch.tensor([0.9, 0.1, 0])
    eye, ear = Keypoint("eye", 0.1, 0.1), Keypoint("ear", 0.3, 0.3)
    points = [[eye, ear], [Keypoint("eye", 0.9, 0.9), Keypoint("ear", 0.1, 0.6)]]
    assert c_score(torch.stack([first, second]), points) == 0.5
    assert c_score(torch.stack([first, second]), [points[0], points[1][:1]]) == 1


@pytest.mark.parametrize(("x", "found"), [(0.43, False), (0.44, True), (0.68, True), (0.69, False)])
def test_the_width_of_a_large_token_is_near(x, found):
    """The token found is column 4 of 8, whose middle is at 0.5625; tokens are 0.125 wide."""
    tokens = torch.stack([grid_with(0, [1.0, 0, 0], side=8), grid_with(4, [1.0, 0, 0], side=8)])
    assert c_score(tokens, [[Keypoint("a", 0, 0)], [Keypoint("a", x, 0.0625)]]) == found


@pytest.mark.parametrize(("x", "found"), [(0.42, True), (0.43, False)])
def test_a_tenth_of_the_side_is_near_for_small_tokens(x, found):
    """The token found is column 10 of 32, whose middle is at 0.328."""
    tokens = torch.stack([grid_with(0, [1.0, 0, 0], side=32), grid_with(10, [1.0, 0, 0], side=32)])
    assert c_score(tokens, [[Keypoint("a", 0, 0)], [Keypoint("a", x, 1 / 64)]]) == found


def test_the_edge_belongs_to_the_last_token():
    tokens = torch.stack([grid_with(15, [1.0, 0, 0])] * 2)
    assert c_score(tokens, [[Keypoint("a", 1.0, 1.0)]] * 2) == 1


def test_no_shared_names():
    assert c_score(torch.randn(2, 4, 3), [[Keypoint("a", 0, 0)], [Keypoint("b", 0, 0)]]) == 0


def test_objects_of_shapes_lie_where_they_are_drawn():
    """A tower that knows each object's kind, but no place, finds every object in every image."""
    scenes, points = draw_scenes(3, "test", 0), object_keypoints("test", 600, seed=3)
    assert len(points) == 600 and [len(objects) for objects in points[:512]] == scenes.count.tolist()
    named = [[Keypoint(**point) for point in objects] for objects in points[:512]]
    assert {point.name for objects in named for point in objects} <= set(SHAPES_CLASS_NAMES)
    kinds = torch.from_numpy(scene_symbols(scenes)[..., 1:17])  # shape and colour
    assert c_score(kinds, named) == 1
    # A token at random: 4 of 16 are near the middle of an object.
    assert c_score(torch.randn(512, 16, 8), named) == pytest.approx(4 / 16, abs=0.05)
