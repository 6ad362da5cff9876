"""Count the parameters and operations of a dual encoder, and time it: `cost.json`, as model cards quote it.

Throughput is that of the towers alone, with the current number of threads (`OMP_NUM_THREADS`). A preset has fresh
weights.

    python recipes/measure_cost.py --model_name_or_path outputs/my_student --output_dir outputs/my_student
    python recipes/measure_cost.py --model_name_or_path ViT-T-16
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

import hf_clip_kd as kd
from hf_clip_kd.evaluation.cost import measure_cost
from hf_clip_kd.models.names import parse_name
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.results import save_cost

CONFIGS = Path(__file__).parent / "configs" / "measure_cost"


@dataclass(kw_only=True)
class CostArguments:
    model_name_or_path: str = field(
        metadata={"help": "A preset, a JSON like them, a folder, a Hub id or `open_clip:ARCH/TAG`."}
    )
    output_dir: str = field(default="outputs/cost", metadata={"help": "Folder of the file."})
    batch_size: int = field(default=32, metadata={"help": "Images, or texts, per timed call."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})


def main(argv: list[str] | None = None) -> dict:
    """Run the recipe and return the measured cost."""
    (args,) = RecipeParser(CostArguments, CONFIGS / "demo.yaml", description=__doc__).parse(argv)
    name = args.model_name_or_path
    if parse_name(name).kind in ("preset", "json"):
        model, processor = kd.load_clip(name)
    else:
        model = kd.load_teacher(name, trust_remote_code=args.trust_remote_code)
        processor = model.processor
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cost = measure_cost(model.to(device), processor, batch_size=args.batch_size)
    path = save_cost(args.output_dir, {"this model": cost})
    for tower in ("image", "text"):
        print(f"{tower}: {cost[tower]['parameters']:,} parameters, {cost[tower]['per_second']:,.0f} a second")
    print(f"All of it: {path}")
    return cost


if __name__ == "__main__":
    exit_with_one_line(main)
