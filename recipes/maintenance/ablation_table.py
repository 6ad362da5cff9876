"""Show the gain of each loss in the study `ablation`, read from the JSONs in its folder.

python recipes/maintenance/ablation_table.py            # print the table of outputs/study/ablation
python recipes/maintenance/ablation_table.py --write    # put it into the document that holds it
"""

import argparse
import re
from pathlib import Path

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.ablation import ablation_table

ROOT = Path(__file__).parents[2]
FOLDER = "outputs/study/ablation"
MARKED = re.compile(r"(<!-- ablation: [^>]+ -->\n)(.*?)(<!-- end of ablation -->)", re.DOTALL)


def pages(root: Path = ROOT) -> list[Path]:
    """Return the documents that hold the table."""
    texts = [root / "README.md", root / "recipes" / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [page for page in texts if page.is_file() and MARKED.search(page.read_text(encoding="utf-8"))]


def renew(text: str, table: str) -> str:
    """Return a document's text with another table between the markers."""
    return MARKED.sub(lambda found: f"{found[1]}{table}\n{found[3]}", text)


def main(argv: list[str] | None = None) -> str:
    """Print the table of a study, write it where asked, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=FOLDER, help=f"Output folder of the study. Default: {FOLDER}.")
    parser.add_argument("--write", action="store_true", help="Put the table into the document that holds it.")
    given = parser.parse_args(argv)
    table = ablation_table(read_study(given.folder))
    if table is None:
        raise ValueError(
            f"The study in {given.folder!r} compares no loss alone with the same loss and `clip`. "
            "The table needs both, and `clip` itself. "
            "Run `python recipes/study.py --config recipes/configs/study/ablation.yaml` and pass its folder."
        )
    for page in pages() if given.write else []:
        page.write_text(renew(page.read_text(encoding="utf-8"), table), encoding="utf-8")
        print(f"{page.relative_to(ROOT)} written")
    print(table)
    return table


if __name__ == "__main__":
    exit_with_one_line(main)
