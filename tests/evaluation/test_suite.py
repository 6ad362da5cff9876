"""Suites in CLIP_benchmark's layout: blocks, exact scores out of tars, and the means of DataComp and VTAB."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from caption_files import model_of
from PIL import Image

from hf_clip_kd.data import load_image_text
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.suite import BY_RECALL, DATACOMP, UNJUDGED, VTAB, suite_blocks, suite_means
from hf_clip_kd.recipe_io.results import data_names


def write_set(folder, samples, ending, *, kind=None, names=(), templates=("{c}",)):
    """Write numbered pictures with labels or captions as CLIP_benchmark's `webdataset_builder` does, in two tars."""
    (folder / "test").mkdir(parents=True)
    if kind:
        (folder / "dataset_type.txt").write_text(f"{kind.title()}\r\n")
    if names:
        (folder / "classnames.txt").write_text("\n".join(names) + "\n")
        (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")
    halves = np.array_split(np.arange(len(samples)), 2)
    (folder / "test/nshards.txt").write_text("2\n")
    for shard, half in enumerate(halves):
        with tarfile.open(folder / f"test/{shard}.tar", "w") as archive:
            for i in half:
                picture = io.BytesIO()
                Image.new("RGB", (2, 2), (int(i), 0, 0)).save(picture, "PNG")
                for end, data in (("png", picture.getvalue()), (ending, str(samples[i]).encode())):
                    member = tarfile.TarInfo(f"s{i:07d}.{end}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def test_scores_by_hand(tmp_path):
    # A class name may be a number. The labels are positions all the same.
    write_set(tmp_path / "wds_vtab-clevr_count_all", [0, 1, 1, 2], "cls", names=["1", "2", "0"])
    write_set(tmp_path / "wds_flickr30k_test", ["red\nrot", "blue\nblau"], "txt", kind="retrieval")
    write_set(tmp_path / "wds_voc2007_multilabel", ["x"], "txt", kind="multilabel", names=["a"])
    blocks = suite_blocks(tmp_path)
    assert list(blocks) == ["flickr30k", "vtab-clevr_count_all"]
    assert data_names(blocks)["flickr30k"] == f"{tmp_path}/wds_flickr30k_test/test"
    evaluator = build_evaluator(blocks, load_image_text)
    x, y, z = np.eye(3)
    texts = {"1": x, "2": y, "0": z, "red": x, "rot": z, "blue": y, "blau": x}
    metrics = evaluator(*model_of(texts, [x, y, z, z]))
    # Pictures 0, 1 and 3 are right, 2 is not: recalls are 1, 1/2 and 1.
    assert (metrics["acc1"], metrics["mean_per_class_recall"]) == pytest.approx((3 / 4, 5 / 6))
    # Captions: "red" and "blue" find their picture, "blau" does not, "rot" is equally far from both.
    assert metrics["image_retrieval_recall@1"] == pytest.approx((1 + 1 / 2 + 1 + 0) / 4)
    classes = evaluator.evaluators[1].details["per_class_recall"]
    assert classes == [
        {"class": "1", "recall": 1.0, "n_images": 1},
        {"class": "2", "recall": 0.5, "n_images": 2},
        {"class": "0", "recall": 1.0, "n_images": 1},
    ]


def test_captions_are_lines_of_any_end(tmp_path, caplog):
    """CLIP_benchmark splits them alike. An image without a caption is left out, and more than 5 % are refused."""
    samples = [f"text {i}\r\nsecond {i}\n" for i in range(40)]
    write_set(tmp_path / "flickr30k", [*samples, "\n"], "txt", kind="retrieval")
    evaluator = build_evaluator(suite_blocks(tmp_path), load_image_text).evaluators[0]
    assert evaluator.counts == {"n_images": 40, "n_texts": 80}
    assert evaluator.texts[:3] == ["text 0", "second 0", "text 1"]
    assert "it has no caption" in caplog.text
    write_set(tmp_path / "two/coco", ["a", "", "b"], "txt", kind="retrieval")
    with pytest.raises(ValueError, match="'coco': 1 of 3 rows are broken, the first it has no caption. At most 5%"):
        build_evaluator(suite_blocks(tmp_path / "two"), load_image_text)


def test_an_image_without_a_text_file_is_broken(tmp_path):
    write_set(tmp_path / "coco", ["a", "b"], "txt", kind="retrieval")
    write_set(tmp_path / "coco/lost", ["c"], "other")
    (tmp_path / "coco/lost/test/0.tar").rename(tmp_path / "coco/test/2.tar")
    blocks = {"coco": suite_blocks(tmp_path)["coco"]}
    with pytest.raises(ValueError, match="'coco'.*1 of 3 rows are broken"):
        build_evaluator(blocks, load_image_text)


def test_left_out_sets_are_named(tmp_path, caplog):
    write_set(tmp_path / "a", [0], "cls", names=["x", "y"])
    write_set(tmp_path / "voc", ["x"], "txt", kind="multilabel")
    assert list(suite_blocks(tmp_path)) == ["a"]
    assert "Left out of the suite" in caplog.text and "voc" in caplog.text
    assert list(suite_blocks(tmp_path / "a")) == ["a"]  # a single data set is a suite, too


def test_bad_suites(tmp_path):
    with pytest.raises(ValueError, match="holds no data set.*CLIP_benchmark's layout.*Pass such a folder"):
        suite_blocks(tmp_path / "none")
    write_set(tmp_path / "a", [0], "cls", kind="detection")
    with pytest.raises(ValueError, match="dataset_type.txt: it says 'detection'. It must say classification or"):
        suite_blocks(tmp_path)
    (tmp_path / "a/dataset_type.txt").unlink()
    with pytest.raises(ValueError, match=r"classnames.txt.* is neither a known name nor a file"):
        build_evaluator(suite_blocks(tmp_path), load_image_text)
    write_set(tmp_path / "wds_a_test", [0], "cls", names=["x"])
    with pytest.raises(ValueError, match="two data sets that are called 'a', the second in .*wds_a_test"):
        suite_blocks(tmp_path)


def test_means_by_hand():
    scores = {
        "vtab-pets": {"acc1": 0.5, "mean_per_class_recall": 0.4},
        "vtab-dmlab": {"acc1": 0.1, "mean_per_class_recall": 0.2},
        "imagenet-a": {"acc1": 0.3, "mean_per_class_recall": 0.9},
        "wilds-fmow": {"acc1": 0.9, "mean_per_class_recall": 0.9},
        "flickr30k": {"image_retrieval_recall@1": 0.6, "text_retrieval_recall@1": 0.8},
        "mine": {"acc1": 0.2, "mean_per_class_recall": 0.2},
    }
    means, parts = suite_means(scores)
    assert means == pytest.approx(
        {
            "average_acc1": (0.5 + 0.1 + 0.3 + 0.9 + 0.2) / 5,
            "vtab_average": (0.5 + 0.1) / 2,
            "datacomp_average": (0.4 + 0.3 + 0.7) / 3,
            "datacomp_average/vtab": 0.4,
            "datacomp_average/imagenet_shifts": 0.3,
            "datacomp_average/retrieval": 0.7,
        }
    )
    assert parts["datacomp_average"] == {"sets": ["vtab-pets", "imagenet-a", "flickr30k"], "of": 38}
    assert parts["vtab_average"]["of"] == 19 and parts["average_acc1"]["of"] == 5


def test_lists_have_as_many_sets_as_their_papers():
    assert (len(VTAB), len(set(VTAB))) == (19, 19)
    assert (len(DATACOMP), len(set(DATACOMP))) == (38, 38)
    # Made of the collection `vtab` of CLIP_benchmark and the task list of DataComp: a misspelled name finds no folder.
    sums = [hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:16] for names in (VTAB, DATACOMP)]
    assert sums == ["aa6924f09286c201", "d135459a55ada08e"]
    assert set(BY_RECALL) | set(UNJUDGED) <= set(DATACOMP)
