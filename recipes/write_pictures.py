"""Write 13,000 real pictures with names and captions, from packages of Debian and npm, as training and test sets.

Clip art, photographs, stamps and emoji in four styles are fetched once (460 MB) and unpacked, not installed. Packages
that lie in the folder already are not fetched. The same packages give the same sets, and the same checksum.

    pip install -e '.[pictures]'
    python recipes/write_pictures.py --max_side 144          # into outputs/pictures
"""

import argparse
import logging
from pathlib import Path

from hf_clip_kd.data.pictures import check_folder, collect, divide, fetch, write_sets
from hf_clip_kd.recipe_io.parser import exit_with_one_line


def main(argv: list[str] | None = None) -> str:
    """Run the recipe and return the checksum of the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/pictures"), help="Folder of the sets.")
    parser.add_argument(
        "--packages",
        type=Path,
        default=Path("outputs/packages"),
        help="Folder with one unpacked package in each folder, such as `openmoji`. Missing packages are fetched.",
    )
    parser.add_argument(
        "--max_side", type=int, help="Longest side of a picture, in pixels. Pictures stay as they are without it."
    )
    args = parser.parse_args(argv)
    if args.max_side is not None and args.max_side < 1:
        raise ValueError(
            f"`--max_side {args.max_side}` leaves no pixel. It must be at least 1. Pass for example `--max_side 144`."
        )
    check_folder(args.folder)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    sets = divide(collect(fetch(args.packages)))
    checksum = write_sets(sets, args.folder, args.max_side)
    for name, pictures in sets.items():
        print(f"{name:12} {len(pictures):6} pictures, {len({picture.name for picture in pictures}):5} names")
    print(f"checksum     {checksum}")
    return checksum


if __name__ == "__main__":
    exit_with_one_line(main)
