"""recipes/evaluate.py: folders and open_clip checkpoints, the embedded world and one's own images, and bad input."""

import io
import json
import tarfile

import pytest
import torch
from PIL import Image
from tar_files import write_tars

from hf_clip_kd.evaluation import load_results
from hf_clip_kd.study.cells.samples import read_samples
from recipes import evaluate as recipe


def numbered_images(n):
    return [Image.new("RGB", (2, 2), (i, 0, 0)) for i in range(n)]


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory):
    from hf_clip_kd import load_clip

    folder = tmp_path_factory.mktemp("student")
    model, processor = load_clip("test-vit")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


SHAPES = {
    "zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 40},
    "retrieval": {"dataset_name": "shapes", "split": "retrieval", "max_samples": 40, "batch_size": 16},
}


@pytest.fixture
def evaluate_main(tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("")

    def main(models, evaluation, *flags):
        flags = ["--model_name_or_path", models, "--evaluation", json.dumps(evaluation), *flags]
        return recipe.main(["--config", str(empty), "--output_dir", str(tmp_path / "results"), *flags])

    return main


def test_recipe_scores_folders_on_shapes(evaluate_main, student_folder, tmp_path, capsys):
    rows = evaluate_main(json.dumps([student_folder]), SHAPES)
    records = load_results(tmp_path / "results")
    assert [record["task"] for record in records] == ["zeroshot_retrieval", "zeroshot_classification"]
    merged = {}
    for record in records:
        merged |= record["metrics"]
        assert record["config"]["model_name_or_path"] == record["model"] == student_folder
        assert record["config"]["evaluation"] == SHAPES
    assert rows == {student_folder: merged}
    assert {"acc1", "image_retrieval_recall@1", "text_retrieval_recall@1"} <= set(merged)
    out = capsys.readouterr().out
    assert "acc1" in out and f"{100 * merged['acc1']:.1f}" in out


def test_recipe_scores_an_open_clip_checkpoint(evaluate_main, tmp_path):
    import open_clip

    small = {"layers": 1, "width": 64, "heads": 1}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": small | {"context_length": 77, "vocab_size": 49408},
    }
    (tmp_path / "evaluation-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("evaluation-tiny")
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    name = f"open_clip:evaluation-tiny/{tmp_path / 'tiny.pt'}"
    (scores,) = evaluate_main(name, {"retrieval": SHAPES["retrieval"]}).values()
    assert 0 <= scores["image_retrieval_recall@1"] <= 1
    (record,) = load_results(tmp_path / "results")
    assert (record["model"], record["pretrained"]) == ("evaluation-tiny", str(tmp_path / "tiny.pt"))


@pytest.mark.parametrize("labels", ["folders", "names", "numbers"])
def test_recipe_scores_own_images(evaluate_main, student_folder, tmp_path, labels):
    rows = []
    for i, image in enumerate(numbered_images(8)):
        folder = tmp_path / "data" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.resize((32, 32)).save(folder / f"{i}.png")
        rows.append(f"{folder / f'{i}.png'},{folder.name if labels == 'names' else i % 2}")
    if labels == "folders":
        data = {"dataset_name": "imagefolder", "data_dir": str(tmp_path / "data"), "split": "train"}
    else:
        table = tmp_path / "table.csv"
        table.write_text("\n".join(["image,label", *rows]) + "\n")
        data = {"dataset_name": str(table), "class_names": ["cat", "dog"]}
    scores = evaluate_main(student_folder, {"zero_shot": data})[student_folder]
    assert set(scores) == {"acc1", "mean_per_class_recall"}
    assert scores["acc1"] == pytest.approx(scores["mean_per_class_recall"])


PAIRS = {"task": "compositional", "dataset_name": "shapes", "split": "compositional"}


def with_options(task, **options):
    return {task: SHAPES[task] | options}


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({}, r"`evaluation=\{\}` asks for nothing.*zero_shot: \{dataset_name: shapes"),
        ({"zero_shot": {}}, "'zero_shot': .* mapping with `dataset_name`"),
        ({"cifar": SHAPES["zero_shot"]}, "'cifar' is no task.*task: zero_shot"),
        (with_options("zero_shot", splitt="test"), "'splitt' is no argument .*Did you mean `split`"),
        (with_options("zero_shot", split="zeroshot"), "'zero_shot' .*split='zeroshot'"),
        (with_options("zero_shot", split="test"), "`label_column='label'` holds plain values"),
        (with_options("zero_shot", templates=["a photo"]), "has no place for the class name"),
        (with_options("zero_shot", class_names=["cat"]), "name no class"),
        (with_options("retrieval", dataset_name="no_such.csv"), "'retrieval' .*no_such.csv"),
        (with_options("retrieval", batch_size=0), "'retrieval': `batch_size: 0` is no number of images. It must be 1"),
        (with_options("zero_shot", batch_size="8"), "`batch_size: '8'` is no number of images.*batch_size: 128"),
        ({"pairs": PAIRS | {"batch_size": True}}, "'pairs': `batch_size: True` is no number of images"),
    ],
)
def test_recipe_bad_evaluation(evaluate_main, student_folder, evaluation, message):
    with pytest.raises(ValueError, match=message):
        evaluate_main(student_folder, evaluation)


def test_labels_that_are_no_class_name(evaluate_main, student_folder, tmp_path):
    numbered_images(1)[0].save(tmp_path / "0.png")
    table = tmp_path / "table.csv"
    table.write_text(f"image,label\n{tmp_path / '0.png'},bird\n")
    data = {"dataset_name": str(table), "class_names": ["cat", "dog"]}
    with pytest.raises(ValueError, match="holds 'bird', which is no class name.*2 `class_names`"):
        evaluate_main(student_folder, {"zero_shot": data})
    with pytest.raises(ValueError, match="reads column 'labels' as text.*'label'"):
        evaluate_main(student_folder, {"zero_shot": data | {"label_column": "labels"}})


def test_recipe_names_a_model_that_is_not_there(evaluate_main, tmp_path):
    with pytest.raises(ValueError, match="no_such_folder"):
        evaluate_main(str(tmp_path / "no_such_folder"), SHAPES)


def test_a_preset_is_scored_as_a_floor_alone(evaluate_main):
    retrieval = {"retrieval": SHAPES["retrieval"]}
    with pytest.raises(ValueError, match="is a preset, which has random weights"):
        evaluate_main("test-vit", retrieval)
    floor = evaluate_main("test-vit", retrieval, "--untrained", "true")
    again = evaluate_main("test-vit", retrieval, "--untrained", "true")
    assert again == floor, "its random weights are always the same"


def test_no_model_is_no_evaluation(evaluate_main, tmp_path):
    with pytest.raises(ValueError, match="`model_name_or_path` would score 0 models"):
        evaluate_main("[]", SHAPES)
    assert not (tmp_path / "results").exists()


def test_two_data_sets_of_one_task(evaluate_main, student_folder, tmp_path):
    evaluation = {"retrieval": SHAPES["retrieval"], "again": SHAPES["retrieval"] | {"task": "retrieval", "seed": 1}}
    scores = evaluate_main(student_folder, evaluation)[student_folder]
    assert {"retrieval/image_retrieval_recall@1", "again/image_retrieval_recall@1"} <= set(scores)
    # Each has a file of its own, though task, data and split are equal.
    found = {record["dataset"]: record["metrics"] for record in load_results(tmp_path / "results")}
    assert set(found) == {"shapes:retrieval/retrieval", "shapes:again/retrieval"}
    for name in evaluation:
        own = {metric: scores[f"{name}/{metric}"] for metric in found[f"shapes:{name}/retrieval"]}
        assert found[f"shapes:{name}/retrieval"] == own


def test_the_pairs_of_shapes_are_scored(evaluate_main, student_folder, tmp_path):
    evaluation = {"compositional": {"dataset_name": "shapes", "split": "compositional", "max_samples": 48}}
    (scores,) = evaluate_main(student_folder, evaluation).values()
    kinds = ("", "/swapped_colors", "/swapped_places", "/changed_attribute")
    assert set(scores) == {f"{metric}{kind}" for metric in ("text_acc", "image_acc", "acc") for kind in kinds}
    (record,) = load_results(tmp_path / "results")
    assert (record["task"], record["dataset"]) == ("image_caption_selection", "shapes/compositional")
    assert (record["n_cases"], record["n_images"], record["metrics"]) == (24, 48, scores)
    assert record["protocol"].endswith("a tie is wrong") and set(record["confidence_intervals"]) == set(scores)
    assert record["by_category"]["swapped_places"]["n_cases"] == 8
    # Any two models' outcomes can be compared, case by case.
    (samples,) = read_samples(tmp_path / "results").values()
    scored = [answered.score for answered in samples.values()]
    assert len(scored) == 24 and sum(scored) / 24 == pytest.approx(scores["acc"])
    assert {answered.category for answered in samples.values()} == {kind[1:] for kind in kinds[1:]}


def test_two_parts_of_one_file_are_refused(evaluate_main, student_folder, tmp_path):
    """The names of their data differ in a character that no file name has."""
    evaluation = {}
    for name in ("a b", "a-b"):
        write_tars(tmp_path / name, sizes=(2,), ending="txt", value=lambda i: f"text {i}")
        evaluation[name] = {"task": "retrieval", "dataset_name": "webdataset", "text_column": "txt"}
        evaluation[name]["data_files"] = f"{tmp_path}/{name}/*.tar"
    with pytest.raises(ValueError, match="'a b' and 'a-b' would both write .*json.*Rename their data"):
        evaluate_main(student_folder, evaluation)


def test_a_suite_is_one_command(evaluate_main, student_folder, tmp_path, capsys):
    for name in ("wds_vtab-pets_test", "wds_cars"):
        write_tars(tmp_path / "wds" / name / "test", sizes=(4, 3), ending="cls", value=lambda i: i % 2)
        (tmp_path / "wds" / name / "classnames.txt").write_text("cat\ndog\n")
        (tmp_path / "wds" / name / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    scores = evaluate_main(student_folder, SHAPES, "--suite", str(tmp_path / "wds"))[student_folder]
    sets = {"vtab-pets": "mean_per_class_recall", "cars": "acc1"}  # main metrics of DataComp
    found = {f"{name}/{metric}" for name in sets for metric in ("acc1", "mean_per_class_recall")}
    means = {"average_acc1", "vtab_average", "datacomp_average", "datacomp_average/vtab"}
    assert set(scores) == found | means
    assert scores["datacomp_average"] == pytest.approx(sum(scores[f"{name}/{sets[name]}"] for name in sets) / 2)
    records = {record["task"]: record for record in load_results(tmp_path / "results")}
    assert {record["dataset"] for record in load_results(tmp_path / "results")} == {
        f"{tmp_path}/wds/test",
        *(f"{tmp_path}/wds/{name}/test" for name in ("wds_vtab-pets_test", "wds_cars")),
    }
    assert records["zeroshot_suite"]["means"]["vtab_average"] == {"sets": ["vtab-pets"], "of": 19}
    assert [row["n_images"] for row in records["zeroshot_classification"]["per_class_recall"]] == [4, 3]
    out = capsys.readouterr().out
    assert "datacomp_average: mean of 2 of 38 data sets" in out and "average_acc1: mean" not in out


def test_a_config_may_have_a_suite_alone(student_folder, tmp_path):
    write_tars(tmp_path / "wds/cars/test", sizes=(4, 3), ending="cls", value=lambda i: i % 2)
    (tmp_path / "wds/cars/classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "wds/cars/zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    config = {
        "model_name_or_path": student_folder,
        "suite": str(tmp_path / "wds"),
        "output_dir": str(tmp_path / "out"),
    }
    (tmp_path / "suite.yaml").write_text(json.dumps(config))
    (scores,) = recipe.main(["--config", str(tmp_path / "suite.yaml")]).values()
    assert scores["average_acc1"] == scores["acc1"]


def test_a_broken_data_set_does_not_stop_the_others(evaluate_main, student_folder, tmp_path, capsys):
    """One cannot be read, and the pictures of another are broken. Both are named at the end, and a third is scored."""
    for name in ("a_whole", "b_unnamed", "c_broken"):
        write_tars(tmp_path / "wds" / name / "test", sizes=(4, 3), ending="cls", value=lambda i: i % 2)
        (tmp_path / "wds" / name / "classnames.txt").write_text("cat\ndog\n")
        (tmp_path / "wds" / name / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    (tmp_path / "wds/b_unnamed/classnames.txt").unlink()
    spoil(tmp_path / "wds/c_broken/test")
    with pytest.raises(
        ValueError, match=r"has 2 data sets that were not measured.*b_unnamed: .*; c_broken of .*broken"
    ):
        evaluate_main(student_folder, SHAPES, "--suite", str(tmp_path / "wds"))
    records = {record["dataset"]: record for record in load_results(tmp_path / "results")}
    assert set(records) == {f"{tmp_path}/wds/a_whole/test", f"{tmp_path}/wds/test"}
    assert records[f"{tmp_path}/wds/test"]["means"]["average_acc1"] == {"sets": ["a_whole"], "of": 1}
    assert "average_acc1" in capsys.readouterr().out


def spoil(folder):
    """Write the tars anew with pictures that are none."""
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            members = [(member, archive.extractfile(member).read()) for member in archive.getmembers()]
        with tarfile.open(path, "w") as archive:
            for member, data in members:
                data = data if member.name.endswith("cls") else b"no picture"
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_a_suite_without_data_is_named(evaluate_main, student_folder, tmp_path):
    with pytest.raises(ValueError, match="`suite=.*empty'` holds no data set.*Pass such a folder"):
        evaluate_main(student_folder, SHAPES, "--suite", str(tmp_path / "empty"))


def test_many_metrics_get_a_line_each():
    rows = {"a": {f"m{i}": i / 100 for i in range(13)}, "b": {"m12": 0.5}}
    lines = recipe.table(rows).split("\n")
    assert lines[:2] == ["model 1: a", "model 2: b"] and len(lines) == 3 + 13
    assert lines[-1].split() == ["m12", "12.0", "50.0"] and lines[-2].split() == ["m11", "11.0", "-"]


def test_demo_config_parses():
    from hf_clip_kd.recipe_io.parser import RecipeParser

    (args,) = RecipeParser(recipe.EvaluateArguments, recipe.CONFIGS / "demo.yaml").parse([])
    assert set(args.evaluation) == {"zero_shot", "retrieval"}


def test_compositional_config_has_all_benchmarks():
    from hf_clip_kd.evaluation.compositional import COMPOSITIONAL
    from hf_clip_kd.recipe_io.parser import RecipeParser

    (args,) = RecipeParser(recipe.EvaluateArguments, recipe.CONFIGS / "compositional.yaml").parse([])
    assert {block["dataset_name"] for block in args.evaluation.values()} == {*COMPOSITIONAL, "xm3600"}
    for name, block in args.evaluation.items():
        given = {"split"} if name == "shapes" else {"annotations", "image_folder"}
        assert set(block) == {"task", "dataset_name"} | given


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/clip-vit-base-patch16", ("openai/clip-vit-base-patch16", "")),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", ("ViT-B-16", "laion2b_s34b_b88k")),
        ("open_clip:ViT-B-16//data/checkpoint.pt", ("ViT-B-16", "/data/checkpoint.pt")),
    ],
)
def test_split_name(name, expected):
    assert recipe.split_name(name) == expected
