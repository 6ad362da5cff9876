"""Write the tables of the documents from the code: losses, students, benchmarks, recipes, scaling, flags and towers.

A table stands in `README.md`, `docs/*.md` or `recipes/README.md`, between two markers that name it.

    python -m recipes.maintenance.tables               # write every table
    python -m recipes.maintenance.tables losses        # write one
    python -m recipes.maintenance.tables --check       # write nothing, fail if a table is stale
"""

import argparse
import re
from pathlib import Path

from . import benchmarks, caption_benchmarks, flags, losses, recipes, scaling, students, vlm_towers

ROOT = Path(__file__).parents[3]
TABLES = {
    "losses": losses.table,
    "students": students.table,
    "benchmarks": benchmarks.table,
    "caption_benchmarks": caption_benchmarks.table,
    "scripts": recipes.scripts,
    "configs": recipes.configs,
    "scaling": scaling.table,
    "refused_flags": flags.refused,
    "resumed_flags": flags.resumed,
    "vlm_towers": vlm_towers.table,
}
COMMAND = "python -m recipes.maintenance.tables"
MARKED = re.compile(rf"(<!-- table: (\w+), written by `{COMMAND}` -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def pages(root: Path = ROOT) -> list[Path]:
    """Return the documents that may hold tables."""
    return [root / "README.md", root / "recipes" / "README.md", *sorted((root / "docs").glob("*.md"))]


def renew(text: str, names: list[str]) -> str:
    """Return a document's text with the named tables made again."""
    return MARKED.sub(
        lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[4]}" if found[2] in names else found[0], text
    )


def stale(names: list[str]) -> dict[Path, str]:
    """Return the new text of each document in which one of the named tables differs from the code."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    renewed = {page: renew(text, names) for page, text in texts.items()}
    return {page: text for page, text in renewed.items() if text != texts[page]}


def main(argv: list[str] | None = None) -> list[Path]:
    """Run the command, and return the documents that were stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TABLE", help=f"Tables among {', '.join(TABLES)}. Default: all.")
    parser.add_argument("--check", action="store_true", help="Write nothing, and fail if a table is stale.")
    given = parser.parse_args(argv)
    if unknown := sorted(set(given.names) - set(TABLES)):
        parser.error(f"{', '.join(unknown)}: no such table. Allowed are {', '.join(TABLES)}. Leave names out for all.")
    found = stale(given.names or list(TABLES))
    for page, text in found.items():
        if not given.check:
            page.write_text(text, encoding="utf-8")
        print(f"{page.relative_to(ROOT)} {'is stale' if given.check else 'written'}")
    if found and given.check:
        raise SystemExit(f"Tables differ from the code. They must agree. Run `{COMMAND}`.")
    return list(found)


if __name__ == "__main__":
    main()
