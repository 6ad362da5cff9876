"""Names of classes: one form in captions and in prompts."""

import datasets
from tar_files import png

from hf_clip_kd.data import load_image_text
from hf_clip_kd.data.class_names import readable
from hf_clip_kd.evaluation import ZeroShotClassificationEvaluator


def test_training_and_test_call_a_class_by_one_name(tmp_path):
    label = datasets.ClassLabel(names=["hot_dog", "cat"])
    features = datasets.Features({"image": datasets.Image(), "label": label})
    rows = {"image": [{"bytes": png(1), "path": None}] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    data = load_image_text(str(tmp_path), text_column="label", label_template="{}")
    evaluator = ZeroShotClassificationEvaluator(data, templates=["{}"])
    assert data["text"][:] == evaluator.class_names == ["hot dog", "cat"]
    # Names that the user wrote stay as they are.
    assert ZeroShotClassificationEvaluator(data, class_names=["a_b", "c"]).class_names == ["a_b", "c"]
    assert readable("great_grey_owl") == "great grey owl"
