"""Ask one or several teachers, once, about every image and caption, for any number of students.

A folder stores the embeddings of some random crops and of all captions for each image. Distillation then reads it in
place of the teachers: `recipes/distill.py --teacher_cache FOLDER`. A second run continues after a stop, and several
processes share the work.

    # the demo's teacher, on the embedded world
    accelerate launch recipes/cache_teacher.py
    accelerate launch recipes/cache_teacher.py --config my_cache.yaml
    # recompute a sample of a finished cache
    python recipes/cache_teacher.py --config my_cache.yaml --verify true
    # push the cache as a data set
    python recipes/cache_teacher.py --config my_cache.yaml --push_to_hub true --hub_model_id me/my-cache
"""

import logging
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from accelerate import PartialState
from torch.utils.data import ConcatDataset

import hf_clip_kd as kd
from hf_clip_kd.data.arguments import ImageTextArguments, RandomCropArguments
from hf_clip_kd.distillation.channels_last import lay_out_kernels
from hf_clip_kd.hub.cards import record_sources
from hf_clip_kd.hub.run import HubArguments, check_run, push_run
from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.losses.specification import expanded, loss_of
from hf_clip_kd.recipe_io.freed_memory import keep_freed_memory
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.processes import process_state
from hf_clip_kd.teachers.cache.manifest import drop_alpha
from hf_clip_kd.teachers.cache.sample_id import probe
from hf_clip_kd.teachers.reader import Reader, load_readers
from hf_clip_kd.training.agreement import working_together

logger = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "configs" / "cache_teacher"
DTYPES = ["float32", "bfloat16", "float16"]


@dataclass(kw_only=True)
class CacheArguments(HubArguments, ImageTextArguments, RandomCropArguments):
    teacher_model_name_or_path: str | dict | list = field(
        metadata={"help": "The teacher or a list of teachers, as for `recipes/distill.py`."}
    )
    output_dir: str = field(metadata={"help": "Folder of the cache."})
    augmentations: int = field(
        default=4, metadata={"help": "Random crops of each image; in epoch e, crop number e modulo this is shown."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the crops."})
    losses: dict | list | str = field(
        default="clip_kd",
        metadata={
            "help": "Losses of the students, or a list of them: one cache serves all. Losses on patches need the "
            "teacher's patch tokens in the cache, of each layer that they read. A layer makes it some hundred times "
            "larger. Embeddings are enough for all others."
        },
    )
    reader_top_k: int | None = field(
        default=None,
        metadata={
            "help": "Number of the largest answers to store for each token of a text. The readers are those that the "
            "loss `reader` names. The answers take the place of the teacher's patch tokens."
        },
    )
    dtype: str = field(default="bfloat16", metadata={"help": "Type of the stored numbers.", "choices": DTYPES})
    teacher_dtype: str = field(
        default="float32", metadata={"help": "Type of the teachers' weights.", "choices": DTYPES}
    )
    channels_last: bool = field(
        default=False, metadata={"help": "Lay the teachers' kernels out with the channels last, for convnets."}
    )
    batch_size: int = field(default=32, metadata={"help": "Images per forward pass, each with all its crops."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that decode and crop."})
    shard_size: int = field(default=2048, metadata={"help": "Images per file; at most so many are lost by a kill."})
    max_broken_fraction: float = field(
        default=0.05, metadata={"help": "The run stops when a larger share of the images cannot be read."}
    )
    verify: bool = field(
        default=False,
        metadata={"help": "Recompute a sample of the finished cache and compare."},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})


class Chained(torch.utils.data.IterableDataset):
    """Several streams one after another."""

    def __init__(self, sources: list):
        self.sources = sources

    def __iter__(self):
        return chain.from_iterable(self.sources)


def load_data(args: CacheArguments):
    """Return the rows, each once, in an order that does not change."""
    sources = args.load_sources()
    if args.datasets is None:
        return sources[0]
    return ConcatDataset(sources) if all(hasattr(source, "__len__") for source in sources) else Chained(sources)


def objectives(args: CacheArguments) -> list:
    return args.losses if isinstance(args.losses, list) else [args.losses]


def load_answering(args: CacheArguments, device) -> list[Reader]:
    """Load the readers whose answers are stored."""
    if args.reader_top_k is None:
        return []
    requests = [request for request in map(requested, objectives(args)) if request.readers]
    if not requests or any(request.readers != requests[0].readers for request in requests):
        raise ValueError(
            f"`reader_top_k={args.reader_top_k}` stores the answers of the readers in `losses`, which name "
            f"{[request.readers for request in requests]}. They must name the same ones, and at least one. Write for "
            "example `losses: {reader: {reader: outputs/captioner}}`."
        )
    for losses in objectives(args):
        others = {name: spec for name, spec in expanded(losses).items() if loss_of(name) != "reader"}
        if others and requested(others).teacher_reads:
            raise ValueError(
                f"`reader_top_k={args.reader_top_k}` stores answers in the place of the teacher's tokens, and losses "
                f"of {losses!r} read these. Only the loss `reader` does without them. Leave `reader_top_k` out, and "
                "the cache stores the tokens."
            )
    return load_readers(requests[0], args.teacher_model_name_or_path, dtype=args.teacher_dtype, device=device)


def has_synthetic(args: CacheArguments) -> bool:
    sources = args.datasets or [{"synthetic_text_column": args.synthetic_text_column}]
    return all(source.get("synthetic_text_column") is not None for source in sources)


def main(argv: list[str] | None = None) -> kd.TeacherCache:
    """Run the recipe and return the finished cache."""
    parser = RecipeParser(CacheArguments, CONFIGS / "demo.yaml", description=__doc__)
    (args,) = parser.parse(argv)
    state = process_state()
    logging.basicConfig(format="%(message)s", level=logging.INFO if state.is_main_process else logging.ERROR)
    with working_together(args):
        return write(parser, args, state)


def write(parser: RecipeParser, args: CacheArguments, state: PartialState) -> kd.TeacherCache:
    """Write the cache together with the other processes, and return it."""
    if state.is_main_process:
        check_run(args, args.output_dir, repo_type="dataset")
    teacher = kd.load_teacher(
        args.teacher_model_name_or_path,
        dtype=args.teacher_dtype,
        device=state.device,
        trust_remote_code=args.trust_remote_code,
    )
    if args.channels_last:
        lay_out_kernels(teacher)
    dataset = load_data(args)
    readers = load_answering(args, state.device)
    collator = kd.AugmentationCollator(
        teacher.processor,
        augmentations=args.augmentations,
        **args.crop,
        drop_alpha=drop_alpha(Path(args.output_dir)),
        seed=args.seed,
        synthetic=has_synthetic(args),
        max_broken_fraction=args.max_broken_fraction,
        readers=[reader.texts for reader in readers],
    )
    writer = kd.CacheWriter(
        args.output_dir,
        teacher,
        collator,
        dataset,
        {"rows": len(dataset) if hasattr(dataset, "__len__") else None, "samples": probe(dataset)},
        request=requested_by_all(objectives(args)),
        dtype=getattr(torch, args.dtype),
        shard_size=args.shard_size,
        batch_size=args.batch_size,
        num_workers=args.dataloader_num_workers,
        readers=readers,
        top_k=args.reader_top_k,
    )
    if state.is_main_process:
        # The recipe tells the place of images and captions, which do not travel with the cache.
        parser.save(Path(args.output_dir) / "recipe.yaml", args)
        record_sources(args.output_dir)
    cache = writer.write()
    if collator.broken.broken:
        logger.warning("%s, among them:\n  %s", collator.broken, "\n  ".join(collator.broken.names))
    logger.info("%s: %d samples, %d crops each.", args.output_dir, len(cache), args.augmentations)
    if args.verify:
        logger.info("Recomputed: embeddings differ by at most %.2g of their norm.", writer.verify())
    if args.push_to_hub and state.is_main_process:
        print(f"On the Hub: {push_run(args, args.output_dir, 'Upload')}")
    return cache


if __name__ == "__main__":
    keep_freed_memory()
    exit_with_one_line(main)
