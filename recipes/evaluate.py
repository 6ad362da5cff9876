"""Score models on zero-shot classification and retrieval, and store the numbers with the config that made them.

A model is a folder, a Hub id or an open_clip name. Each result goes to `<output_dir>/*.json` in the shape that
CLIP_benchmark's tools read, and all of them into one table. The block `evaluation` is that of `distill.py`.

    accelerate launch recipes/evaluate.py                                   # the models that the demo left behind
    accelerate launch recipes/evaluate.py --model_name_or_path open_clip:ViT-B-16/laion2b_s34b_b88k
    accelerate launch recipes/evaluate.py --model_name_or_path outputs/my_student --suite wds  # wds/*/test/*.tar
    accelerate launch recipes/evaluate.py \
        --model_name_or_path '["outputs/my_student", "openai/clip-vit-base-patch16"]' --evaluation \
        '{"zero_shot": {"dataset_name": "uoft-cs/cifar10", "image_column": "img", "templates": "cifar10"}}'

With `--push_to_hub true` the scores of one model go to its repository on the Hub, and into its card.
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from huggingface_hub import snapshot_download

import hf_clip_kd as kd
from hf_clip_kd.evaluation import SequentialEvaluator, build_evaluator, measure
from hf_clip_kd.evaluation.representation import NOT_SHARES
from hf_clip_kd.evaluation.suite import suite_blocks, suite_means
from hf_clip_kd.hub.run import HubArguments, check_run, push_run
from hf_clip_kd.models.names import parse_name
from hf_clip_kd.recipe_io.freed_memory import keep_freed_memory
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.processes import process_state
from hf_clip_kd.recipe_io.results import check_counts, save_results
from hf_clip_kd.teachers.base import as_dtype
from hf_clip_kd.training.agreement import working_together

CONFIGS = Path(__file__).parent / "configs" / "evaluate"
MOST_COLUMNS = 12  # A table with more metrics has a line for each.


@dataclass(kw_only=True)
class EvaluateArguments(HubArguments):
    model_name_or_path: str | list[str] = field(
        metadata={
            "help": "Models to score: a folder, a Hub id, `open_clip:ARCH/TAG`, `open_clip:ARCH//checkpoint.pt`, or a "
            "list of them."
        }
    )
    evaluation: dict = field(
        default_factory=dict,
        metadata={
            "help": "Tasks to measure: `zero_shot`, `retrieval` and `representation`, each with the arguments of its "
            "data (`dataset_name`, `split`, `image_column`, ...) and of its evaluator (`label_column`, `class_names`, "
            "`templates` or `text_column`, `batch_size`, and for a representation `teacher`, `gromov_wasserstein` and "
            "`language_model`). Also `compositional` and `multilingual_retrieval`, with `annotations` and "
            "`image_folder`."
        },
    )
    suite: str | None = field(
        default=None,
        metadata={
            "help": "Folder of data sets in CLIP_benchmark's WebDataset layout, to measure in place of `evaluation`. "
            "The means of DataComp and VTAB are reported beside the scores. A data set that fails is named at the end."
        },
    )
    untrained: bool = field(
        default=False, metadata={"help": "Score presets, too, with random weights: the floor of each metric."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side of the images in pixels, if it differs from the side that the models were made for. "
            "Position embeddings are interpolated."
        },
    )
    output_dir: str = field(default="outputs/evaluate", metadata={"help": "Folder of the JSON files."})
    dtype: str = field(
        default="float32",
        metadata={"help": "Type of the weights.", "choices": ["float32", "float16", "bfloat16"]},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})


def split_name(name: str) -> tuple[str, str]:
    """Split a name into model and pretrained tag, two columns of CLIP_benchmark; only open_clip's names have both."""
    parsed = parse_name(name)
    return (parsed.architecture, parsed.weights) if parsed.kind == "open_clip" else (name, "")


def check(args: EvaluateArguments, names: list[str]) -> None:
    """Refuse early if the scores cannot be pushed, and find the repository for them."""
    if not args.push_to_hub:
        return
    if len(names) > 1 or parse_name(names[0]).kind not in ("folder", "hub"):
        raise ValueError(
            f"`push_to_hub` with `model_name_or_path={args.model_name_or_path!r}`: scores go to the repository of "
            "their model. It may be one folder or Hub id. Evaluate it by itself."
        )
    if parse_name(names[0]).kind == "hub":
        args.hub_model_id = args.hub_model_id or names[0]
    check_run(args, names[0])


def folder_with_scores(name: str, output_dir: str) -> Path:
    """Add the new scores to the results in the model's folder. A Hub model gets a copy without weights."""
    folder = Path(name)
    if not folder.is_dir():
        folder = Path(output_dir, "hub", folder.name)
        snapshot_download(name, local_dir=folder, allow_patterns=["*.json", "*.yaml", "README.md"])
    (folder / "results").mkdir(exist_ok=True)
    for path in Path(output_dir).glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["model"] == name:
            shutil.copy(path, folder / "results")
    return folder


def table(rows: dict[str, dict[str, float]]) -> str:
    """Lay out one model a line, or one metric a line. Numbers are per cent except for metrics that are no shares."""
    metrics = list(dict.fromkeys(metric for scores in rows.values() for metric in scores))
    if len(metrics) > MOST_COLUMNS:
        return tall_table(rows, metrics)
    headers = [metric.replace("_retrieval_recall", "_R") for metric in metrics]
    width = max(map(len, ["model", *rows]))
    lines = ["  ".join([f"{'model':<{width}}", *headers])]
    for name, scores in rows.items():
        cells = [
            f"{shown(metric, scores[metric]) if metric in scores else '-':>{len(header)}}"
            for metric, header in zip(metrics, headers, strict=True)
        ]
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return "\n".join(lines)


def tall_table(rows: dict[str, dict[str, float]], metrics: list[str]) -> str:
    width = max(map(len, metrics))
    lines = [f"model {number}: {name}" for number, name in enumerate(rows, start=1)]
    lines.append("  ".join([" " * width, *(f"{f'model {number}':>8}" for number in range(1, len(rows) + 1))]))
    for metric in metrics:
        cells = [f"{shown(metric, scores[metric]) if metric in scores else '-':>8}" for scores in rows.values()]
        lines.append("  ".join([f"{metric:<{width}}", *cells]))
    return "\n".join(lines)


def build_suite(args: EvaluateArguments) -> tuple[SequentialEvaluator, dict[str, str]]:
    """Return the evaluator of a suite's data sets that can be read, and the errors of the others by name."""
    args.evaluation, parts, failed = suite_blocks(args.suite), [], {}
    for name, block in args.evaluation.items():
        try:
            parts += build_evaluator({name: block}, kd.load_image_text).evaluators
        except ValueError as error:
            failed[name] = str(error)
    if not parts:
        raise ValueError(failure(args, failed))
    return SequentialEvaluator(parts), failed


def failure(args: EvaluateArguments, failed: dict[str, str]) -> str:
    """Return the error that names each data set of a suite that was not measured."""
    errors = "; ".join(f"{name}: {' '.join(error.split())}" for name, error in failed.items())
    return (
        f"`suite={args.suite!r}` has {len(failed)} data sets that were not measured, and no mean counts them. Each "
        f"must be whole. Repair them, or move them away. {errors}"
    )


def add_means(
    args: EvaluateArguments, evaluator: SequentialEvaluator, found: dict[str, float], **model: str
) -> tuple[dict[str, float], list[str]]:
    """Add the means over the suite to the scores, store them, and return sentences on those that lack data sets."""
    scores = {
        part.name: {metric: found[evaluator.named(part, {metric: 0.0}).popitem()[0]] for metric in part.metric_names}
        for part in evaluator.evaluators
        if evaluator.named(part, {part.primary_metric: 0.0}).keys() <= found.keys()
    }
    means, parts = suite_means(scores)
    if process_state().is_main_process:
        # The split is that of the layout.
        record = {
            "dataset": f"{args.suite}/test",
            "task": "zeroshot_suite",
            "config": asdict(args),
            "details": {"means": parts},
        }
        save_results(args.output_dir, metrics=means, **record, **model)
    sizes = {name: (len(part["sets"]), part["of"]) for name, part in parts.items()}
    return found | means, [f"{name}: mean of {n} of {of} data sets" for name, (n, of) in sizes.items() if n < of]


def shown(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric.rpartition("/")[2] in NOT_SHARES else f"{100 * value:.1f}"


def load(args: EvaluateArguments, name: str, device: torch.device):
    """Return a frozen model. A preset needs `untrained`, since somebody may have meant a folder."""
    if args.untrained and name in kd.list_models():
        torch.manual_seed(0)
        model, processor = kd.load_clip(name)
        size = {} if args.image_size is None else {"image_size": args.image_size}
        return kd.CLIPTeacher(model, processor=processor, dtype=as_dtype(args.dtype), device=device, **size)
    source = name if args.image_size is None else {"name": name, "image_size": args.image_size}
    return kd.load_teacher(source, dtype=args.dtype, device=device, trust_remote_code=args.trust_remote_code)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the recipe and return the scores of each model, between 0 and 1, under its name."""
    (args,) = RecipeParser(EvaluateArguments, CONFIGS / "demo.yaml", description=__doc__).parse(argv)
    state = process_state()
    logging.basicConfig(format="%(message)s", level=logging.INFO if state.is_main_process else logging.ERROR)
    with working_together(args):
        return evaluate(args, state)


def evaluate(args: EvaluateArguments, state: PartialState) -> dict[str, dict[str, float]]:
    """Score each model together with the other processes, and return the scores under its name."""
    names = [args.model_name_or_path] if isinstance(args.model_name_or_path, str) else args.model_name_or_path
    check_counts("`model_name_or_path`", {"n_models": len(names)}, {"n_models": 1})
    if state.is_main_process:
        check(args, names)
    failed: dict[str, str] = {}
    if args.suite is not None:
        evaluator, failed = build_suite(args)
    else:
        evaluator = build_evaluator(args.evaluation, kd.load_image_text)
    rows: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    for name in names:
        model = load(args, name, state.device)
        architecture, pretrained = split_name(name)
        broken: dict[str, str] | None = None if args.suite is None else {}
        rows[name] = measure(
            evaluator,
            model,
            model.processor,
            args.evaluation,
            folder=args.output_dir if state.is_main_process else None,
            name=architecture,
            pretrained=pretrained,
            config=asdict(args) | {"model_name_or_path": name},
            failed=broken,
        )
        failed |= {f"{part} of {name}": error for part, error in (broken or {}).items()}
        if args.suite is not None:
            model_name = {"model": architecture, "pretrained": pretrained}
            rows[name], notes = add_means(args, evaluator, rows[name], **model_name)
    if state.is_main_process:
        print("\n".join(["", table(rows), *notes, ""]))
        print(f"Results with their config: {args.output_dir}/*.json")
    if failed:
        raise ValueError(failure(args, failed))
    if state.is_main_process and args.push_to_hub:
        folder = folder_with_scores(names[0], args.output_dir)
        print(f"On the Hub: {push_run(args, folder, 'Scores')}")
    return rows


if __name__ == "__main__":
    keep_freed_memory()
    exit_with_one_line(main)
