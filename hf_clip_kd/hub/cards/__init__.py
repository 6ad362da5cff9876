"""
Model cards: what a folder holds, said from its files alone, in Markdown with metadata that the Hub accepts.

No network, and nothing of the run's memory: a card is the same whenever it is rendered.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, DatasetCardData, ModelCardData

from ...recipe_io.results import write_whole
from .folder import FACTS_NAME, CardFolder, nested_table, shown
from .licences import inherit, licence_of, metadata
from .markdown import Markdown, code, count, environment, public, table
from .objectives import objectives, shorthand
from .scores import compared_scores, eval_results, score_tables
from .sources import Source, hub_data, hub_model, read_recipe, sources, teacher_names

logger = logging.getLogger(__name__)

LIBRARY = "hf_clip_kd"
TAGS = {"student": "clip", "vlm": "llava", "teacher_cache": "clip"}


def write_card(
    folder: str | Path,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    licence: str | None = None,
    teachers: Sequence[str] = (),
    datasets: Sequence[str] = (),
    compare: Mapping[str, str | Path] | None = None,
) -> Path:
    """
    Write the card of a folder, its `README.md`, and beside it `card.json` with what its other files do not say.

    Facts that are not given are those of an earlier call. What cannot be looked up later is kept in `card.json`: the
    scores of the runs to compare with, and what a teacher's folder says about its own data.

    Args:
        folder (`str` or `Path`): As [`render_card`] takes it.
        name (`str`, *optional*): The title; by default the last part of the Hub id or folder.
        repo_id (`str`, *optional*): Where it is going to be on the Hub, for the examples.
        licence (`str`, *optional*): An identifier of the Hub; by default what teachers and data allow, where that is
            known.
        teachers, datasets (`Sequence[str]`, *optional*): Where no `recipe.yaml` names them.
        compare (`Mapping[str, str | Path]`, *optional*):
            Other runs to stand in the tables of results, by what they are called there, `{"student alone": FOLDER}`.
            A teacher in a folder of this machine is there without being named.

    Returns:
        `Path`: that of the card. What licences do not allow is also logged, as warnings.

    Raises:
        ValueError: The folder holds neither a model nor a teacher cache.
    """
    folder = Path(folder)
    facts = dict(CardFolder(folder).facts)
    facts |= {key: value for key, value in (("name", name), ("repo_id", repo_id), ("licence", licence)) if value}
    recipe = read_recipe(folder)
    local = [one for one in teacher_names(recipe) if Path(one, "results").is_dir()]
    others = {"teacher" if len(local) == 1 else f"teacher {public(one)}": one for one in local} | dict(compare or {})
    facts["compare"] = facts.get("compare", {}) | {label: compared_scores(Path(run)) for label, run in others.items()}
    if not any(_gone(Source(*one)) for one in facts.get("sources", [])):
        given = [Source("teacher", public(one), hub_model(one)) for one in teachers]
        given += [Source("data", public(one), hub_data(one)) for one in datasets]
        facts["sources"] = list(dict.fromkeys([*sources(recipe), *given])) or facts.get("sources", [])
    write_whole(folder / FACTS_NAME, json.dumps(facts, indent=2) + "\n")
    for warning in licence_of_folder(CardFolder(folder))[1]:
        logger.warning("%s", warning)
    path = folder / "README.md"
    write_whole(path, render_card(folder))
    return path


def _gone(source: Source) -> bool:
    """Whether nothing can be learned about it any more: it was a folder, and elsewhere or later there is none."""
    return source.hub is None and not source.role.startswith("data") and not Path(source.name).is_dir()


def render_card(folder: str | Path) -> str:
    """
    Return the card of a folder.

    Args:
        folder (`str` or `Path`):
            Of a run of `distill.py` or `train_vlm.py`, with `config.json`, and of these what there is: `recipe.yaml`,
            `training_args.json`, `results/*.json`, `cost.json` ([`measure_cost`]), `parity.json` of an export,
            `representation.json`, `card.json` ([`write_card`]). Or of a teacher cache, with `cache.json`.

    Returns:
        `str`: Markdown that begins with metadata in YAML. It names no path that leads out of the working folder, and
        what a user wrote, names and captions, stands in it as text.

    Raises:
        ValueError: The folder holds neither a model nor a teacher cache.
    """
    card = CardFolder(Path(folder))
    licence, warnings = licence_of_folder(card)
    context = {
        "metadata": Markdown(card_data(card, licence).to_yaml()),
        "card": card,
        "licence": licence,
        "licence_warnings": warnings,
        "licence_rows": licence_rows(card),
        "teachers": [shown(source) for source in card.of_role("teacher")],
        "objectives": objectives(card.recipe.get("losses")),
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
    # Sections that are left out leave empty lines.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def licence_of_folder(card: CardFolder) -> tuple[str | None, list[str]]:
    """As [`inherit`], of everything the model was made of."""
    return inherit({one.name: licence_of(one.hub or one.name) for one in card.origins}, card.facts.get("licence"))


def licence_rows(card: CardFolder) -> Markdown | None:
    """Return what each teacher and data set allows, and where that was read."""
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
        ],
        **metadata(licence),
    }
    hub = {role: [one.hub for one in card.of_role(role) if one.hub] for role in {one.role for one in card.sources}}
    data = hub.get("data") or None
    if card.kind == "teacher_cache":
        return DatasetCardData(pretty_name=card.name, source_datasets=data, **common)
    bases = [
        one for role in ("teacher", "starting weights", "vision tower", "language model") for one in hub.get(role, [])
    ]
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
    """One row for each tower of each model."""
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
    """On what, and on which inputs, the numbers of a cost table were measured."""
    notes = []
    for role, cost in costs.items():
        on, (height, width) = cost["measured_on"], cost["image_size"]
        texts = f", texts of {cost['context_length']} tokens" if "context_length" in cost else ""
        where = f"{on['device']}, threads: {on['threads']}, batches of {on['batch_size']}, {on['dtype']}, torch {on['torch']}"
        notes.append(f"{role}: images of {height} x {width} pixels{texts}; {where}")
    return notes


def representation(values: dict[str, Any]) -> list[tuple[str, Markdown]]:
    """Each part of `representation.json`, statistics of features or alignments, as a titled table."""
    return [
        (
            title.replace("_", " "),
            nested_table(part if all(isinstance(one, dict) for one in part.values()) else {title: part}),
        )
        for title, part in values.items()
        if isinstance(part, dict) and part
    ]


__all__ = ["render_card", "write_card"]
