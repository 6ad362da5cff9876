"""Report of a study, made from its JSONs alone: Markdown, one self-contained HTML file, and figures."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from ...hub.cards.markdown import Markdown, code, environment, escape, plain
from ...recipe_io.results import write_whole
from ..cells.cells import AXES, Study, read_study, student
from ..cells.headline import headline_of
from ..cells.metrics import BITS, VQA
from ..estimates.meter import whole_ladder
from ..estimates.outcomes import drawn_units
from .ablation import ablation_table
from .figures import LeftOut, figures_of, save
from .findings import findings
from .gaps import gap_table
from .image_tokens import token_table
from .meter_tables import curve_table, grading_table, lead_table, meter_table, ten_times
from .objective_tables import objective_table
from .summary import summary
from .tables import benchmark_tables, failures, probe_table, slope_table, sweep_tables

FOLDER = "figures"
# Forms of a figure and their media queries, for a phone's width and dark colours. The first that fits is shown.
FORMS = {
    "-narrow-dark": "(max-width: 600px) and (prefers-color-scheme: dark)",
    "-narrow": "(max-width: 600px)",
    "-dark": "(prefers-color-scheme: dark)",
}


def write_report(folder: str | Path, *, leave_out_blind: bool = False) -> list[Path]:
    """
    Write `report.md`, `report.html`, `summary.json` and `figures/` into the output folder of a study.

    The study may still be running. The same JSONs give the same bytes.

    Args:
        folder (`str` or `Path`): Output folder of `recipes/study.py`, with `study.json` and `cells/*.json`.
        leave_out_blind (`bool`, *optional*, defaults to `False`): See [`read_study`].

    Returns:
        `list[Path]`: The files written.

    Raises:
        ValueError: See [`read_study`].
    """
    folder = Path(folder)
    study = read_study(folder, leave_out_blind=leave_out_blind)
    figures, paths = _figures(study, folder / FOLDER)
    text = _markdown(study, figures)
    pages = {
        "report.md": text,
        "report.html": _html(text, folder, study),
        "summary.json": json.dumps(summary(study), indent=1) + "\n",
    }
    for name, page in pages.items():
        write_whole(folder / name, page)
    return [*(folder / name for name in pages), *paths]


def _figures(study: Study, folder: Path) -> tuple[list[dict[str, Any]], list[Path]]:
    """Draw the figures; return the template's entry of each, and the files."""
    shown, paths = [], []
    for name, figure in figures_of(study).items():
        entry: dict[str, Any] = {"title": Markdown(figure.title), "caption": Markdown(figure.caption), "picture": None}
        try:
            paths += save(lambda narrow, draw=figure.draw: draw(study, narrow), folder, name)
            entry |= {"picture": picture(f"{FOLDER}/{name}", figure.title), "png": Markdown(f"{FOLDER}/{name}.png")}
        except LeftOut as reason:
            # A figure of an earlier report would contradict this one.
            for old in folder.glob(f"{name}*"):
                old.unlink(missing_ok=True)  # Another run of the study may write its report, too.
            entry["left_out"] = Markdown(reason)
        shown.append(entry)
    return shown, paths


def picture(path: str, title: str) -> Markdown:
    """
    Return the HTML of a figure that [`save`] has drawn, in the form that fits the reader's screen.

    Args:
        path (`str`): Its SVG, seen from the page and without the ending.
        title (`str`): Words for those who do not see it.
    """
    sources = [f'<source media="{media}" srcset="{path}{form}.svg">' for form, media in FORMS.items()]
    return Markdown("\n".join(["<picture>", *sources, f'<img src="{path}.svg" alt="{title}">', "</picture>"]))


def _markdown(study: Study, figures: list[dict[str, Any]]) -> str:
    text = (
        environment("study/report/templates")
        .get_template("report.md.jinja")
        .render(
            title=_title(study),
            vqa=study.has_vqa,
            representation=any(cell.get("representation") for cell in study.cells),
            procedural=study.record["procedural"],
            cells=len({(*student(cell), cell["axes"]["seed"]) for cell in study.cells}),
            missing=study.missing,
            failed=failures(study),
            failed_count=len(study.failed),
            axes=list(_axes(study.cells)),
            findings=findings(study),
            left_out=Markdown(study.left_out or ""),
            headline=Markdown(" ".join(map(code, [*headline_of(study.record)][:1]))),
            drawn=drawn_units(study, VQA) or "",
            figures=figures,
            tables=sweep_tables(study),
            benchmark_tables=benchmark_tables(study),
            ablation=ablation_table(study),
            grading=grading_table(study) if study.has_vqa else None,
            curves=curve_table(study) if study.has_vqa else None,
            slopes=slope_table(study),
            gaps=gap_table(study),
            tokens=token_table(study) if study.has_vqa else None,
            objectives=objective_table(study),
            leads=lead_table(study) if study.has_vqa else None,
            meter=meter_table(study) if study.has_vqa else None,
            ten_times=ten_times(study),
            ladder=Markdown(" < ".join(map(escape, whole_ladder(study)))),
            bits=any(BITS.of(cell) is not None for cell in study.cells),
            probes=probe_table(study),
            machine=study.record["machine"],
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _title(study: Study) -> str:
    question = "Do better teachers make better students? " if study.has_vqa else ""
    return f"{question}The study “{study.record['name']}”"


def _axes(cells: list[dict]) -> Iterable[str]:
    """Yield `teacher: S, M, L` for each axis that has a value."""
    for axis in (*AXES, "seed"):
        values = dict.fromkeys(str(cell["axes"][axis]) for cell in cells if cell["axes"].get(axis) is not None)
        if values:
            yield f"{axis.replace('_', ' ')}: {', '.join(values)}"


def _html(text: str, folder: Path, study: Study) -> str:
    """Return the Markdown as one page that contains its figures."""
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    body = re.sub(r' <a href="[^"]+\.png">PNG</a>', "", body)  # The page may be moved without this file.
    body = re.sub(
        rf'(src|srcset)="({FOLDER}/[^"]+\.svg)"', lambda match: f'{match[1]}="{_data(folder / match[2])}"', body
    )
    return (
        environment("study/report/templates")
        .get_template("report.html.jinja")
        .render(title=Markdown(html.escape(plain(_title(study)))), body=Markdown(body))
    )


def _data(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
