"""Push the folder of a recipe (student, LLaVA or teacher cache) with its card to the Hub, in one commit.

Run it again after a failure: it sends only files that have not arrived.

    python recipes/push.py outputs/demo/distilled me/my-student
    python recipes/push.py outputs/demo/distilled me/my-student --private --revision next --tag v1
    python recipes/push.py outputs/demo/distilled me/my-student --export native,open_clip,onnx --quantize \
        --compare "student alone=outputs/demo/alone"
"""

import argparse
import logging
import shutil
from pathlib import Path

from hf_clip_kd.evaluation.cost import measure_run
from hf_clip_kd.hub.cards import write_card
from hf_clip_kd.hub.push import check_push, push_folder, repo_type_of
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.vlm.saving import load_folder


def read_flags(argv: list[str] | None) -> argparse.Namespace:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path, help="Folder that a recipe wrote.")
    flags.add_argument("repo_id", help="`namespace/name`, or `name` in your own namespace.")
    # None leaves an existing repository as it is, False would not.
    flags.add_argument("--private", action="store_true", default=None, help="Make a new repository a private one.")
    flags.add_argument("--revision", help="The branch, created if missing.")
    flags.add_argument("--tag", help="A tag for the new commit.")
    flags.add_argument("--message", default="Upload", help="Title of the commit.")
    flags.add_argument(
        "--export", metavar="FORMAT,...", help="Push the folder as `native`, `remote-code`, `open_clip`, `onnx`."
    )
    flags.add_argument("--quantize", action="store_true", help="Add 8-bit towers to `onnx`.")
    flags.add_argument(
        "--compare",
        metavar="NAME=FOLDER",
        nargs="+",
        default=[],
        help="Runs whose scores are shown beside it in the card.",
    )
    return flags.parse_args(argv)


def read_compared(pairs: list[str]) -> dict[str, str]:
    """Return the folders of the runs to compare with, by their names in the card."""
    for pair in pairs:
        name, _, folder = pair.rpartition("=")
        if not (name and Path(folder, "results").is_dir()):
            raise ValueError(
                f"`--compare {pair}` names no run with results. It must be NAME=FOLDER, with FOLDER/results/*.json. "
                "Write for example --compare 'student alone=outputs/demo/alone'."
            )
    return dict(pair.rsplit("=", 1) for pair in pairs)


def is_run(folder: Path) -> bool:
    """Return whether the folder holds a complete model of a recipe; a checkpoint may lack its processor."""
    return repo_type_of(folder) == "model" and (folder / "recipe.yaml").is_file()


def main(argv: list[str] | None = None) -> str:
    """Run the recipe and return the address of the pushed folder."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    args = read_flags(argv)
    folder = args.folder
    if not folder.is_dir():
        raise ValueError(
            f"`{folder}` is no folder, seen from {Path.cwd()}. It must be one that a recipe left behind. Pass its "
            "path."
        )
    compare = read_compared(args.compare)
    where = {"repo_type": repo_type_of(folder), "private": args.private, "revision": args.revision}
    # An export takes long, so the right to push is checked first.
    repo_id = check_push(args.repo_id, **where)
    if is_run(folder) and not (folder / "cost.json").is_file():
        measure_run(folder, load_folder)
    if args.export is not None:
        from hf_clip_kd.export import export_model

        folder = args.folder.with_name(f"{args.folder.name}-export")
        if (folder / "parity.json").is_file():
            # An earlier export may have other formats, or be of an older model.
            shutil.rmtree(folder)
        export_model(args.folder, folder, args.export.split(","), quantize=args.quantize, repo_id=repo_id)
    write_card(folder, repo_id=repo_id, compare=compare)
    url = push_folder(folder, repo_id, **where, tag=args.tag, message=args.message)
    print(f"On the Hub: {url}")
    return url


if __name__ == "__main__":
    exit_with_one_line(main)
