"""Blocks of a recipe that ask for compositional tests, and wrong ones."""

import pytest

from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.compositional.cases import Case, first_of_each

FILES = {"task": "compositional", "dataset_name": "winoground", "annotations": "a.jsonl", "image_folder": "images"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"dataset_name": "crepe"}, "`dataset_name: 'crepe'` is no compositional benchmark.*shapes, sugarcrepe"),
        (FILES, r"a\.jsonl: there is no such file.*examples\.jsonl.*Pass the file"),
        (FILES | {"split": "test"}, "`split` is no argument of Winoground.*annotations, image_folder. Delete it"),
        (FILES | {"annotations": 5}, "`annotations: 5` is no path.*Write `annotations: PATH`"),
        (FILES | {"annotation": "a"}, "'annotation' is no argument of the task 'compositional'.*Did you mean"),
        ({"dataset_name": "winoground", "annotations": "a"}, "`image_folder` has no value.*Add `image_folder: PATH`"),
        (FILES | {"max_samples": 0}, "`max_samples: 0` is no number of cases.*1 or more.*leave it out for all"),
        ({"dataset_name": "shapes"}, "`split: test` asks for what `shapes` does not have.*split: compositional"),
        (
            {"dataset_name": "shapes", "split": "compositional", "annotations": "a"},
            "`annotations` asks for what `shapes` does not have.*seed, image_size beside it",
        ),
    ],
)
def test_a_wrong_block_is_named(block, message):
    with pytest.raises(ValueError, match=f"'compositional'.*{message}"):
        build_evaluator({"compositional": block}, load=None)


def test_fewer_cases_are_of_all_categories():
    """A file has one category after another. Three cases of each two are those that come first."""
    cases = [Case((str(i),), ("a", "b"), category) for i, category in enumerate("xxxxyyz")]
    assert [case.images[0] for case in first_of_each(cases, 5)] == ["0", "1", "4", "5", "6"]
    assert first_of_each(cases, None) == cases and first_of_each(cases, 99) == cases
