"""Show what the package survived, from the JSONs in outputs/survival: damaged files, kills, and a long run.

python recipes/maintenance/survival_table.py            # print the table
python recipes/maintenance/survival_table.py --write    # put it into docs/security.md
"""

import argparse
import re
from pathlib import Path

from hf_clip_kd.hub.cards.markdown import code, table
from hf_clip_kd.recipe_io.foreign import fields, read_json
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.report.report import picture

ROOT = Path(__file__).parents[2]
FOLDER = "outputs/survival"
FILES = ("fuzz.json", "kills.json", "soak.json")  # Others lie beside them, such as the readings of a soak.
PAGE = ROOT / "docs/security.md"
MARKED = re.compile(r"(<!-- survival -->\n)(.*?)(<!-- end of survival -->)", re.DOTALL)
SOAK = re.compile(r"(<!-- soak -->\n)(.*?)(<!-- end of soak -->)", re.DOTALL)
FIGURE = "img/soak"
COLUMNS = {"what": str, "tried": int, "lost": int, "hangs": int | None, "crashes": int | None, "command": str}
# Rows that only tests show. Each has a few cases and no rare ones, so a run of the tests is all of it.
TESTS = {
    "a rank that is killed, stopped or fails, or loses a worker": "tests/training/test_peers.py",
    "processes that disagree": "tests/training/test_agreement.py",
    "dead dataloader workers": "tests/recipe_io/test_worker_deaths.py",
    "NaN and infinity in steps": "tests/training/test_guard.py",
    "NaN and infinity in pictures": "tests/data/reading/test_images.py",
    "NaN and infinity in caches, and flipped bits": "tests/teachers/cache tests/vlm/test_feature_cache.py",
    "hostile files": "tests/invariants/test_hostile_files.py",
    "hostile models": "tests/invariants/test_hostile_models.py",
    "hostile words": "tests/invariants/test_hostile_words.py",
    "files of commit 465c5d1": "tests/invariants/test_old_runs.py",
}


def read_rows(folder: str | Path) -> list[list]:
    """
    Read what was tried, in the order of `FILES`.

    Raises:
        ValueError: There is no file, or a row has other fields than `COLUMNS`.
    """
    words = {
        "allowed": f"It must hold a list of dicts with {', '.join(COLUMNS)}.",
        "fix": "Run `make fuzz`, or the command that writes it, again.",
    }
    rows = []
    for path in filter(Path.is_file, (Path(folder, name) for name in FILES)):
        for number, row in enumerate(read_json(path, list, **words)):
            rows.append(fields(row, COLUMNS, path, where=f"row {number}", **words))
    if not rows:
        raise ValueError(
            f"{str(folder)!r} holds no results. It must have a JSON of each command. Run `make fuzz` first."
        )
    return rows


def survival_table(folder: str | Path) -> str:
    """Return the table: what was tried, how often, how often it was lost, hung or crashed, and the command."""
    rows = [
        [what, *("–" if number is None else f"{number:,}" for number in numbers), code(command)]
        for what, *numbers, command in read_rows(folder)
    ]
    rows += [[what, "–", "–", "–", "–", code(f"pytest -m '' {files}")] for what, files in TESTS.items()]
    return table(["what", "tried", "lost or wrong", "hangs", "crashes", "command"], rows)


def soak_figure(folder: Path) -> str:
    """Return the figure that `make soak` has drawn beside the pages, for dark ones and phones too, or nothing."""
    if not (folder / f"{FIGURE}.svg").is_file():
        return ""
    words = "Memory, open files and time of a step over the steps of a long training"
    return f"{picture(FIGURE, words)}\n"


def main(argv: list[str] | None = None) -> str:
    """Print the table, write it where asked, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=FOLDER, help=f"Folder of the JSONs. Default: {FOLDER}.")
    parser.add_argument(
        "--write", action="store_true", help="Put the table and the soak's figure into docs/security.md."
    )
    given = parser.parse_args(argv)
    found = survival_table(given.folder)
    if given.write:
        text = MARKED.sub(lambda match: f"{match[1]}{found}\n{match[3]}", PAGE.read_text(encoding="utf-8"))
        text = SOAK.sub(lambda match: f"{match[1]}{soak_figure(PAGE.parent)}{match[3]}", text)
        PAGE.write_text(text, encoding="utf-8")
    print(found)
    return found


if __name__ == "__main__":
    exit_with_one_line(main)
