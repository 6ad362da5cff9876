"""
Model cards in Markdown, with metadata that the Hub accepts.

A card is made from the files of a folder alone, without network. Each rendering is the same.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCardData, ModelCardData
from jinja2 import UndefinedError

from ...losses.base import NOTATION
from ...models.names import is_hub_id
from ...recipe_io.foreign import ForeignFileError
from ...recipe_io.results import read_written, write_whole
from .folder import FACTS_NAME, CardFolder, files_of, nested_table, shown
from .licences import inherit, licence_of, metadata
from .markdown import Markdown, code, count, environment, public, table
from .objectives import objectives, shorthand
from .scores import compared_scores, eval_results, score_tables
from .sources import Source, hub_data, hub_model, read_recipe, sources, teacher_names, without_paths

logger = logging.getLogger(__name__)

LIBRARY = "hf_clip_kd"
TAGS = {"student": "clip", "vlm": "llava", "teacher_cache": "clip"}


def write_card(
    folder: str | Path,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    licence: str | None = None,
    bases: Sequence[str] = (),
    teachers: Sequence[str] = (),
    datasets: Sequence[str] = (),
    compare: Mapping[str, str | Path] | None = None,
) -> Path:
    """
    Write the card of a folder, its `README.md`, and `card.json` with the facts that no other file has.

    Facts that are not given are those of an earlier call. `card.json` keeps facts that may get lost: scores of the
    compared runs, and data that a teacher's folder names.

    Args:
        folder (`str` or `Path`): See [`render_card`].
        name (`str`, *optional*): The title. Default is the last part of the Hub id or folder.
        repo_id (`str`, *optional*): Hub id of the folder, for the examples.
        licence (`str`, *optional*): An identifier of the Hub. Default is what teachers and data allow, if that is
            known.
        bases, teachers, datasets (`Sequence[str]`, *optional*): Names of starting weights, teachers and data, besides
            those in a `recipe.yaml`.
        compare (`Mapping[str, str | Path]`, *optional*):
            Labels and folders of other runs for the tables of results, `{"student alone": FOLDER}`.
            A teacher in a local folder is added by itself.

    Returns:
        `Path`: Path of the card. Limits of licences are also logged as warnings.

    Raises:
        ValueError: The folder holds neither a model nor a teacher cache.
    """
    folder = Path(folder)
    facts = dict(CardFolder(folder).facts)
    facts |= {key: value for key, value in (("name", name), ("repo_id", repo_id), ("licence", licence)) if value}
    recipe = read_recipe(folder)
    local = [teacher for teacher in teacher_names(recipe) if Path(teacher, "results").is_dir()]
    others = {"teacher" if len(local) == 1 else f"teacher {public(teacher)}": teacher for teacher in local}
    others |= dict(compare or {})
    facts["compare"] = facts.get("compare", {}) | {label: compared_scores(Path(run)) for label, run in others.items()}
    recorded = [Source(*source) for source in facts["sources"]] if "sources" in facts else None
    if not any(map(_gone, recorded or ())):
        given = [Source("teacher", public(teacher), hub_model(teacher)) for teacher in teachers]
        given += [Source("starting weights", public(base), hub_model(base)) for base in bases]
        given += [Source("data", public(dataset), hub_data(dataset)) for dataset in datasets]
        found = dict.fromkeys([*sources(recipe), *given])
        facts["sources"] = without_paths(found, recorded, recipe) or recorded or []
    write_whole(folder / FACTS_NAME, json.dumps(facts, indent=2) + "\n")
    for warning in licence_of_folder(CardFolder(folder))[1]:
        logger.warning("%s", warning)
    path = folder / "README.md"
    write_whole(path, render_card(folder))
    return path


def record_sources(folder: str | Path) -> None:
    """
    Record in `card.json` what a run is made of, while it has it.

    It then knows which names are folders, and which are on the Hub.

    A recipe calls this once it has written `recipe.yaml` and loaded its models. The card may be written later, by
    another program, and far from the folders. No file is written if no name has the form of a Hub id.

    Args:
        folder (`str` or `Path`): Folder of the run.
    """
    path, found = Path(folder, FACTS_NAME), sources(read_recipe(Path(folder)))
    if path.is_file() or any(is_hub_id(source.name) for source in found):
        facts = read_written(path) if path.is_file() else {}
        write_whole(path, json.dumps(facts | {"sources": found}, indent=2) + "\n")


def _gone(source: Source) -> bool:
    """Return whether the source was a local folder that does not exist any more, or not on this machine."""
    return source.hub is None and not source.role.startswith("data") and not Path(source.name).is_dir()


def render_card(folder: str | Path) -> str:
    """
    Return the card of a folder.

    Args:
        folder (`str` or `Path`):
            A run of `distill.py` or `train_vlm.py`, with `config.json`, or a teacher cache, with `cache.json`.
            Optional files of a run: `recipe.yaml`, `training_args.json`, `results/*.json`, `cost.json`
            ([`measure_cost`]), `parity.json` (export), `representation.json`, `card.json` ([`write_card`]).

    Returns:
        `str`: Markdown that begins with metadata in YAML. Paths outside the working folder are shortened to their
        last part. A user's names and captions are shown as text.

    Raises:
        ValueError: The folder holds neither a model nor a teacher cache, or a file in it is damaged.
    """
    try:
        return _rendered(CardFolder(Path(folder)))
    except ForeignFileError:
        raise
    # A card shows dozens of values from a dozen files. Each may have another type in a file that was changed.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, UndefinedError) as error:
        raise ValueError(
            f"No card can be made of {str(folder)!r}: a value in its files is missing or has another type "
            f"({type(error).__name__}: {error}). The files must be as the recipes wrote them: "
            f"{', '.join(files_of(Path(folder)))}. Restore the file that was changed."
        ) from error


def _rendered(card: CardFolder) -> str:
    licence, warnings = licence_of_folder(card)
    context = {
        "metadata": Markdown(card_data(card, licence).to_yaml()),
        "card": card,
        "licence": licence,
        "licence_warnings": warnings,
        "licence_rows": licence_rows(card),
        "teachers": [shown(source) for source in card.of_role("teacher")],
        "objectives": objectives(card.recipe.get("losses")),
        "notation": NOTATION,
        "shorthand": shorthand(card.recipe.get("losses")),
        "settings": table(["", "value"], card.settings()) if card.settings() else None,
        "scores": score_tables(card.scores, card.facts.get("compare", {})),
        "cost": cost_table(card.cost) if card.cost else None,
        "cost_notes": cost_notes(card.cost),
        "parity": nested_table(card.parity) if card.parity else None,
        "representation": representation(card.representation),
        "load": {key: Markdown(value) if isinstance(value, str) else value for key, value in card.loading().items()},
        "code": code,
        "shown": shown,
    }
    text = environment("hub/cards/templates").get_template(f"{card.kind}.md.jinja").render(context)
    # Missing sections leave empty lines.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def licence_of_folder(card: CardFolder) -> tuple[str | None, list[str]]:
    """Return [`inherit`] of everything the model was made of."""
    found = {source.name: licence_of(source.hub or source.name) for source in card.origins}
    return inherit(found, card.facts.get("licence"))


def licence_rows(card: CardFolder) -> Markdown | None:
    """Return the table of the licences of teachers and data sets, and where they were read."""
    rows = []
    for source in card.sources:
        if (found := licence_of(source.hub or source.name)) is not None:
            rows.append((shown(source), source.role, found.licence, found.note or "–", found.read_in))
    return table(["", "role", "licence", "note", "read in"], rows) if rows else None


def card_data(card: CardFolder, licence: str | None) -> CardData:
    """Return the metadata of a card."""
    common: dict[str, Any] = {
        "language": "en",
        "tags": [
            LIBRARY,
            "knowledge-distillation",
            TAGS[card.kind],
            *(["procedural-data"] if card.procedural else []),
            *(["published-defects"] if card.defects else []),
        ],
        **metadata(licence),
    }
    roles = {source.role for source in card.sources}
    hub = {role: [source.hub for source in card.of_role(role) if source.hub] for role in roles}
    data = hub.get("data") or None
    if card.kind == "teacher_cache":
        return DatasetCardData(pretty_name=card.name, source_datasets=data, **common)
    base_roles = ("teacher", "starting weights", "vision tower", "language model")
    bases = [base for role in base_roles for base in hub.get(role, [])]
    vlm = card.kind == "vlm"
    return ModelCardData(
        model_name=card.name,
        base_model=bases or None,
        datasets=data,
        library_name=LIBRARY if card.loading()["package"] else "transformers",
        pipeline_tag="image-text-to-text" if vlm else "zero-shot-image-classification",
        eval_results=eval_results(card.scores, vlm) or None,
        **common,
    )


def cost_table(costs: dict[str, dict[str, Any]]) -> Markdown:
    """Return a table with one row for each tower of each model."""
    header = ["", "parameters", "operations per input", "inputs per second"]
    rows = []
    for role, cost in costs.items():
        rows += [
            (
                f"{role}, {tower} tower",
                count(cost[tower]["parameters"]),
                count(cost[tower]["flops"]),
                f"{cost[tower]['per_second']:.0f}",
            )
            for tower in ("image", "text")
            if tower in cost
        ]
        rows.append((f"{role}, all", count(cost["parameters"]), "–", "–"))
    return table(header, rows)


def cost_notes(costs: dict[str, dict[str, Any]]) -> list[str]:
    """Return the device and the input sizes of each column of a cost table."""
    notes = []
    for role, cost in costs.items():
        on = cost["measured_on"]
        if "patches" in cost:
            images = f"images of {cost['patches']} patches"
        else:
            images = "images of {} x {} pixels".format(*cost["image_size"])
        texts = f", texts of {cost['context_length']} tokens" if "context_length" in cost else ""
        where = f"{on['device']}, threads: {on['threads']}, batches of {on['batch_size']}, {on['dtype']}"
        where += f", torch {on['torch']}"
        notes.append(f"{role}: {images}{texts}; {where}")
    return notes


def representation(values: dict[str, Any]) -> list[tuple[str, Markdown]]:
    """Return each part of `representation.json` (statistics of features or alignments) as a titled table."""
    return [
        (
            title.replace("_", " "),
            nested_table(part if all(isinstance(value, dict) for value in part.values()) else {title: part}),
        )
        for title, part in values.items()
        if isinstance(part, dict) and part
    ]


__all__ = ["record_sources", "render_card", "write_card"]
