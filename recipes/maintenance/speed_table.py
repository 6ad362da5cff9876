"""Show the table of all benchmarks that compare with a peer, read from outputs/bench.

python recipes/maintenance/speed_table.py            # print the table
python recipes/maintenance/speed_table.py --write    # put it into the document that holds it
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_clip_kd.recipe_io.parser import exit_with_one_line

ROOT = Path(__file__).parents[2]
FOLDER = "outputs/bench"
MARKED = re.compile(r"(<!-- speed: [^>]+ -->\n)(.*?)(<!-- end of speed -->)", re.DOTALL)
HEAD = (
    "| what | ours | peer | | ratio | limit | MB, ours and peer | threads |\n"
    "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
)


def read(folder: Path) -> list[dict[str, Any]]:
    """
    Return the benchmarks of a folder that have rows for the table, by name.

    Raises:
        ValueError: There are none.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    found = [result for result in found if result.get("rows")]
    if not found:
        raise ValueError(
            f"The folder {str(folder)!r} holds no benchmark with rows for the table. "
            "It is the place where tests/bench/*.py write. Run `make bench` first."
        )
    return found


def line(row: Mapping[str, Any], threads: int) -> str:
    """Return a line of the table. The ratio is bold where it keeps its limit."""
    kept, limit = True, ""
    if row["at_least"] is not None:
        kept, limit = row["ratio"] >= row["at_least"], f"≥ {row['at_least']:g}"
    if row["at_most"] is not None:
        kept, limit = row["ratio"] <= row["at_most"], f"≤ {row['at_most']:g}"
    ratio = f"**{row['ratio']:.2f}**" if kept and limit else f"{row['ratio']:.2f}"
    low, high = row["spread"]
    memory = " / ".join(f"{value:,}" for value in row["memory_mb"] or ())
    numbers = " | ".join(f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (row["ours"], row["peer"]))
    what = f"{numbers} | {row['unit']}, {row['peer_name']}"
    return f"| {row['what']} | {what} | {ratio} ({low:.2f}–{high:.2f}) | {limit} | {memory} | {threads} |"


def table(results: list[dict[str, Any]]) -> str:
    """Return the table, and below it the machines on which the numbers were made."""
    lines = [line(row, result["machine"]["threads"]) for result in results for row in result["rows"]]
    machines = [result["machine"] for result in results]
    loads = [machine["load_average"] for machine in machines]
    measured = f"Measured on {'; '.join(sorted(set(map(described, machines))))}."
    load = f"The load average was {min(loads):g} to {max(loads):g}."
    return "\n".join([HEAD, *lines, "", measured, load])


def described(machine: Mapping[str, Any]) -> str:
    """Name a machine with its programs in a line."""
    packages = [f"{name} {version}" for name, version in machine["packages"].items()]
    gpu = [machine["gpu"]] if machine["gpu"] else []
    hardware = [machine["processor"], f"{machine['cores']} cores", *gpu]
    return ", ".join([*hardware, machine["system"], f"Python {machine['python']}", *packages])


def pages(root: Path = ROOT) -> list[Path]:
    """Return the documents that hold the table."""
    return [page for page in sorted((root / "docs").glob("*.md")) if MARKED.search(page.read_text(encoding="utf-8"))]


def main(argv: list[str] | None = None) -> str:
    """Print the table, write it where asked, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=FOLDER, help=f"Folder of the JSONs. Default: {FOLDER}.")
    parser.add_argument("--write", action="store_true", help="Put the table into the document that holds it.")
    given = parser.parse_args(argv)
    text = table(read(Path(given.folder)))
    for page in pages() if given.write else []:
        written = MARKED.sub(lambda found: f"{found[1]}{text}\n{found[3]}", page.read_text(encoding="utf-8"))
        page.write_text(written, encoding="utf-8")
        print(f"{page.relative_to(ROOT)} written")
    print(text)
    return text


if __name__ == "__main__":
    exit_with_one_line(main)
