"""The contract of a benchmark, for every entry of the table: a new one is covered unasked."""

import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest
from vqa_benchmarks import FOUR, SAMPLES, compute, references

from hf_clip_kd.evaluation.vqa import BENCHMARKS, METRICS, READERS, WRITERS, Benchmark, benchmarks, metric_path
from hf_clip_kd.evaluation.vqa.library import import_evaluate

# Others make their questions.
FROM_FILES = [name for name, benchmark in BENCHMARKS.items() if type(benchmark) is Benchmark]


def test_every_declaration_is_in_the_table():
    modules = [
        importlib.import_module(f"{benchmarks.__name__}.{part.name}")
        for part in pkgutil.iter_modules(benchmarks.__path__)
    ]
    declared = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    assert len(declared) == len(BENCHMARKS) and all(BENCHMARKS[part.name] is part for part in declared)


def test_readers_metrics_and_writers_are_those_of_the_table():
    assert list(READERS) == list(BENCHMARKS)
    assert set(METRICS) <= set(READERS) and set(WRITERS) <= set(READERS)
    for name, benchmark in BENCHMARKS.items():
        assert (benchmark.read, benchmark.metric, benchmark.write) == (
            READERS[name],
            METRICS.get(name),
            WRITERS.get(name),
        )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_declaration_says_what_a_table_needs(name):
    benchmark = BENCHMARKS[name]
    assert all([benchmark.title, benchmark.measures, benchmark.files, benchmark.protocol, benchmark.read.__doc__])
    assert benchmark.metric is not None or benchmark.write is not None, "answers are neither scored nor exported"
    assert benchmark.max_new_tokens >= 1 and benchmark.submission_suffix in (".json", ".jsonl", "")
    if benchmark.metric is not None:
        assert benchmark.metric.benchmark == name
        assert {"llava", "lmms_eval"} <= set(benchmark.metric.protocols)
        assert benchmark.paper in benchmark.metric.__doc__, "the metric cites another paper"


def test_lengths_and_endings_are_those_of_llava():
    long = {"scienceqa", "mmmu", "mmvet"}
    short = {"vqav2", "gqa", "textvqa", "vizwiz", "pope", "mme", "seedbench", "llava"}
    short |= {"mmvp", "cvbench", "blink", "naturalbench", "realworldqa", "mmstar"}
    short |= {"docvqa", "infovqa", "chartqa", "ocrbench", "ai2d"}
    assert {name: BENCHMARKS[name].max_new_tokens for name in (*long, *short)} == dict.fromkeys(long, 1024) | (
        dict.fromkeys(short, 128)
    )
    assert BENCHMARKS["shapes"].max_new_tokens == 16
    endings = {"mme": "", "seedbench": ".jsonl", "llava": ".jsonl"} | (
        dict.fromkeys(("vqav2", "gqa", "vizwiz", "mmmu", "mmvet", "docvqa", "infovqa"), ".json")
    )
    assert {name: BENCHMARKS[name].submission_suffix for name in endings} == endings


def test_likelihood_is_of_short_answers_in_the_spellings_that_the_metric_takes():
    free = {name for name, benchmark in BENCHMARKS.items() if not benchmark.short_answers}
    assert free == {"mmvet", "llava"}
    for name in METRICS:
        rows = [row | {"choices": []} for row in FOUR]
        scores = compute(name, ["Yes", "No", "No", "Yes"], *rows)["scores"]
        # Letters of options are upper case everywhere, and the words of shapes and MMMU are trained as written.
        assert not BENCHMARKS[name].any_case or scores == [1, 1, 1, 1]
    assert {name for name in METRICS if BENCHMARKS[name].any_case} == {
        "vqav2", "gqa", "textvqa", "vizwiz", "pope", "mme",
        "naturalbench", "realworldqa", "docvqa", "infovqa", "chartqa", "questions",
    }  # fmt: skip


@pytest.mark.parametrize("name", FROM_FILES)
def test_reader_names_a_file_that_does_not_exist(name, tmp_path):
    parameters = inspect.signature(READERS[name]).parameters.values()
    required = {part.name: str(tmp_path / "nowhere") for part in parameters if part.default is part.empty}
    with pytest.raises(ValueError, match=rf"nowhere: .* must .*Read it with `{READERS[name].__name__}\("):
        READERS[name](**required)


@pytest.mark.parametrize("name", WRITERS)
def test_writer_writes_where_it_is_told_and_one_answer_for_each_sample(name, tmp_path):
    path = BENCHMARKS[name].write_submission(tmp_path / "new", "s", SAMPLES, ["Yes", "No"], "my-model")
    assert path == tmp_path / "new" / f"s{BENCHMARKS[name].submission_suffix}" and path.exists()
    if path.suffix:
        text = path.read_text()
        assert json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    with pytest.raises(ValueError, match=r"There are 1 answers to 2 samples.*read_answers\(path, samples\)"):
        BENCHMARKS[name].write_submission(tmp_path, "s", SAMPLES, ["Yes"], "my-model")


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_did(name):
    predictions, images = ["yes", "", "no", "yes"], ["1.jpg", "1.jpg", "2.jpg", "2.jpg"]
    found = compute(name, predictions, *FOUR, n_resamples=20, images=images)
    json.dumps(found, allow_nan=False)
    assert (found["benchmark"], found["protocol"], found["n_samples"]) == (name, "llava", len(FOUR))
    assert len(found["scores"]) == len(FOUR)
    assert found["bootstrap"] == {
        "unit": METRICS[name].unit,
        "n_resamples": 20,
        "confidence_level": 0.95,
        "seed": 0,
    }
    for metric, (low, high) in found["confidence_intervals"].items():
        assert low <= found[metric] <= high
    for protocol in METRICS[name].protocols:
        assert compute(name, predictions, *FOUR, protocol=protocol)["protocol"] == protocol


@pytest.mark.parametrize("name", METRICS)
def test_metric_loads_from_its_file_without_hub_and_leaves_nothing_beside_it(name, tmp_path):
    folder = Path(metric_path(name)).parent
    before = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    loaded = import_evaluate().load(metric_path(name), cache_dir=str(tmp_path / "cache"))
    rows, answers = references(name, *FOUR), ["yes", "no", "", "no"]
    assert loaded.compute(predictions=answers, references=rows) == METRICS[name]().compute(
        predictions=answers, references=rows
    )
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before
    assert not (tmp_path / "cache").exists()


def test_a_metric_that_there_is_not():
    with pytest.raises(ValueError, match="no VQA metric 'mmvet'.*needs a judge"):
        metric_path("mmvet")
