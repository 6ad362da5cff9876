"""Convert a checkpoint of another project to a folder of ours, and print its name for the other recipes.

The embeddings are compared with those of the checkpoint's own model before anything is written.

    python recipes/import_checkpoint.py epoch_32.pt outputs/clip_kd --format clip_kd
    python recipes/import_checkpoint.py TinyCLIP-ViT-8M-16.pt outputs/tinyclip --format tinyclip
    python recipes/import_checkpoint.py mobileclip_b.pt outputs/mobileclip --format mobileclip \
        --architecture MobileCLIP-B
"""

import argparse
import logging

from hf_clip_kd.export.importing import LAYOUTS, import_checkpoint
from hf_clip_kd.recipe_io.parser import exit_with_one_line


def main(argv: list[str] | None = None) -> str:
    """Run the recipe and return the name of the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="A .pt or .safetensors file, or a folder as on the Hub.")
    parser.add_argument("output_dir", help="The new folder.")
    parser.add_argument("--format", required=True, choices=LAYOUTS, help="Naming of its weights.")
    parser.add_argument(
        "--architecture",
        help="A name of open_clip.list_models() or a JSON of that schema; not needed for a plain ViT.",
    )
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    name = import_checkpoint(args.checkpoint, args.output_dir, args.format, args.architecture)
    print(f"Imported. Use it as: {name}")
    return name


if __name__ == "__main__":
    exit_with_one_line(main)
