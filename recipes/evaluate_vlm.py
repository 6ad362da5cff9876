"""Score vision-language models on VQA benchmarks, offline, and store every answer with the numbers.

A model is a folder or Hub id of any image-text-to-text model: a folder of `train_vlm.py`, or a stock LLaVA. Results
go to `<output_dir>/*.json`, answers to `<output_dir>/samples`, files for servers to `<output_dir>/submissions`. An
interrupted run continues.

    python recipes/evaluate_vlm.py   # the models of the demo
    python recipes/evaluate_vlm.py --config recipes/configs/evaluate_vlm/llava.yaml --model_name_or_path FOLDER
    python recipes/evaluate_vlm.py --model_name_or_path '["FOLDER", "llava-hf/llava-1.5-7b-hf"]' --dtype bfloat16 \
        --evaluation '{"pope": {"folder": "coco", "image_folder": "val2014"}}'
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import VQAEvaluator, build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import BENCHMARKS, bits_of, is_bits, score_text
from hf_clip_kd.models.completeness import REPORTED, SCORE_RULE, check_complete
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.processes import process_state
from hf_clip_kd.recipe_io.results import check_counts

CONFIGS = Path(__file__).parent / "configs" / "evaluate_vlm"


@dataclass
class EvaluateVLMArguments:
    model_name_or_path: str | list[str] = field(
        metadata={"help": "Models to score: a folder or Hub id of an image-text-to-text model, or a list of them."}
    )
    evaluation: dict = field(
        metadata={
            "help": f"Benchmarks to measure: {', '.join(BENCHMARKS)}, each with its files and, as you like, "
            "`protocol`, `max_samples`, `batch_size`, `max_new_tokens`, `likelihood`."
        }
    )
    output_dir: str = field(
        default="outputs/evaluate_vlm", metadata={"help": "Folder of results, answers, submissions."}
    )
    dtype: str = field(
        default="float32",
        metadata={"help": "Type of the weights.", "choices": ["float32", "float16", "bfloat16"]},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})


def fingerprint(name: str, model, dtype: str) -> str:
    """Hash the state of the weights: the commit on the Hub, or names, sizes and times of a folder's files."""
    if Path(name).is_dir():
        files = sorted(path for path in Path(name).iterdir() if path.is_file())
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    else:
        state = getattr(model.config, "_commit_hash", None)
    return hashlib.sha256(repr((name, dtype, state)).encode()).hexdigest()


def score(name: str, evaluator: VQAEvaluator, args: EvaluateVLMArguments, state: PartialState) -> dict[str, float]:
    """Return the numbers of one model by benchmark, and its `NAME/answer_bits`."""
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            name, dtype=getattr(torch, args.dtype), trust_remote_code=args.trust_remote_code, **REPORTED
        )
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`model_name_or_path={name!r}` cannot be loaded ({str(error).splitlines()[0]}). It must be a folder or "
            "Hub id of an image-text-to-text model with its processor. Train one with `recipes/train_vlm.py`, or "
            "correct the name."
        ) from error
    check_complete(report, f"model_name_or_path={name!r}", model, SCORE_RULE)
    numbers = evaluator(
        model.to(state.device),
        processor,
        folder=args.output_dir if state.is_main_process else None,
        name=name,
        config=asdict(args) | {"model_name_or_path": name},
        weights=fingerprint(name, model, args.dtype),
    )
    return numbers | bits_of(evaluator.results)


def table(rows: dict[str, dict[str, float]], points: set[str]) -> str:
    """Format numbers in per cent, those named in `points` unchanged, and bits, one model a line."""
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    width = max(map(len, ["model", *rows]))
    lines = ["  ".join([f"{'model':<{width}}", *(f"{name:>8}" for name in names)])]
    for model, scores in rows.items():
        texts = [score_text(name, scores[name], points) for name in names]
        cells = [f"{text:>{max(8, len(name))}}" for name, text in zip(names, texts, strict=True)]
        lines.append("  ".join([f"{model:<{width}}", *cells]))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the recipe and return the number that papers quote of each benchmark, and its bits, for each model."""
    (args,) = RecipeParser(EvaluateVLMArguments, CONFIGS / "demo.yaml", description=__doc__).parse(argv)
    state = process_state()
    logging.basicConfig(format="%(message)s", level=logging.INFO if state.is_main_process else logging.ERROR)
    names = [args.model_name_or_path] if isinstance(args.model_name_or_path, str) else args.model_name_or_path
    check_counts("`model_name_or_path`", {"n_models": len(names)}, {"n_models": 1})
    evaluator = build_vqa_evaluator(args.evaluation, load_shapes)
    rows = {name: score(name, evaluator, args, state) for name in names}
    if state.is_main_process:
        print(f"\n{table(rows, evaluator.points)}\n")
        if any(map(is_bits, set().union(*rows.values()))):
            print("Fewer `answer_bits` are better: minus log2 of the probability of the accepted answer.\n")
        print(f"Results, answers and submissions: {args.output_dir}")
    return rows


if __name__ == "__main__":
    exit_with_one_line(main)
