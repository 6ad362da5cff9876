"""The page: all that it shows as JSON, in a template that needs nothing from elsewhere."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ...hub.cards.markdown import Markdown, environment, plain, public
from ...hub.cards.scores import is_points
from ..estimates.two_models import Summarize
from .comparisons import compare_runs
from .pictures import small_pictures
from .questions import Question, Run

# Bytes of a page. Browsers open it at once, and most mail lets it pass.
LARGEST = 20_000_000


@dataclass(frozen=True)
class ShownMap:
    """Heat map of a question's text on its picture."""

    values: str = field(metadata={"help": "Base64 of a byte for each patch of a square grid, row by row."})
    low: float = field(metadata={"help": "Value of byte 0."})
    high: float = field(metadata={"help": "Value of byte 255."})


def page(
    runs: Sequence[Run],
    questions: Sequence[Question],
    load: Callable[[str], Image.Image | None],
    *,
    texts: Mapping[int, str] | None = None,
    maps: Mapping[str, Mapping[int, ShownMap]] | None = None,
    summarize: Summarize | None = None,
    largest: int = LARGEST,
) -> str:
    """
    Write the page on which models are compared answer by answer.

    Args:
        runs (`Sequence[Run]`): Models, in the order of the page.
        questions (`Sequence[Question]`): Questions to show, all or some of [`questions_of`].
        load (`Callable`): Function from the name of an image to the RGB picture, or to `None` if there is none.
        texts (`Mapping[int, str]`, *optional*): Position of a question -> text of its heat maps.
        maps (`Mapping[str, Mapping[int, ShownMap]]`, *optional*): Name of a dual encoder -> position -> heat map.
        summarize (`Callable`, *optional*): See [`compare_models`].
        largest (`int`, *optional*, defaults to 20,000,000): Bytes of the page at most.

    Returns:
        `str`: HTML that loads nothing. All that comes from the data is in a JSON, and shown as text.

    Raises:
        ValueError: The page cannot be made small enough.
    """
    data = _without_pictures(runs, questions, texts or {}, maps or {})
    data["pairs"] = [comparison.cells() for comparison in compare_runs(runs, summarize)]
    names = list(dict.fromkeys(question.first.image for question in questions if question.first.image is not None))
    # A picture has an entry with its sides besides.
    room = largest - len(_rendered(runs, data).encode()) - 40 * len(names)
    pictures = small_pictures(names, load, room)
    data["pictures"] = [[copy.uri, copy.width, copy.height] for copy in pictures.values()]
    places = {name: position for position, name in enumerate(pictures)}
    for entry, question in zip(data["questions"], questions, strict=True):
        entry["picture"] = places.get(question.first.image, -1)
    return _rendered(runs, data)


def _without_pictures(
    runs: Sequence[Run],
    questions: Sequence[Question],
    texts: Mapping[int, str],
    maps: Mapping[str, Mapping[int, ShownMap]],
) -> dict[str, Any]:
    return {
        "models": [run.name for run in runs],
        "scores": [row for run in runs for row in _scores(run)],
        "encoders": [public(name) for name in maps],
        "asked": sum(len({key for run in runs for key in run.answers.get(name, {})}) for name in _benchmarks(runs)),
        "per_token": [name for name in _benchmarks(runs) if _per_token(runs, name)],
        "pictures": [],
        "questions": [
            _question(question)
            | {"text": texts.get(position, ""), "maps": [_map(maps[name].get(position)) for name in maps]}
            for position, question in enumerate(questions)
        ],
    }


def _benchmarks(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.answers))


def _per_token(runs: Sequence[Run], benchmark: str) -> bool:
    """Return whether the bits of a benchmark are means over the tokens of an answer."""
    ways = [run.records.get(benchmark, {}).get("likelihood") or {} for run in runs]
    return any(way.get("length") == "per_token" for way in ways)


def _scores(run: Run) -> list[dict[str, Any]]:
    """Return a row for each benchmark of a run: number of its questions, mean score, main metric and mean bits."""
    rows = []
    for benchmark, answers in run.answers.items():
        scores = [answered.score for answered in answers.values() if answered.score is not None]
        bits = [answered.bits for answered in answers.values() if answered.bits is not None]
        rows.append(
            {
                "model": run.name,
                "benchmark": benchmark,
                "questions": len(answers),
                "accuracy": f"{100 * sum(scores) / len(scores):.2f}" if scores else "–",
                "papers quote": _main_metric(run.records[benchmark]),
                "answer bits": f"{sum(bits) / len(bits):.3f}" if bits else "–",
            }
        )
    return rows


def _main_metric(record: dict[str, Any]) -> str:
    """Return the number that papers quote with its name, in per cent or points."""
    name = record.get("main_metric")
    value = record["metrics"].get(name)
    return "–" if value is None else f"{name}: {(1 if is_points(name) else 100) * value:.2f}"


def _question(question: Question) -> dict[str, Any]:
    first = question.first
    return {
        "benchmark": question.benchmark,
        "name": question.name,
        "prompt": question.prompt,
        "category": first.category,
        "image": public(first.image or ""),  # A page is passed on, and nobody needs the paths of this machine.
        "picture": -1,
        "references": list(Counter(first.references).items()),
        "answers": [
            answered and {"text": answered.answer, "score": _short(answered.score), "bits": _short(answered.bits)}
            for answered in question.answers
        ],
    }


def _map(shown: ShownMap | None) -> list[Any] | None:
    return None if shown is None else [shown.values, round(shown.low, 3), round(shown.high, 3)]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rendered(runs: Sequence[Run], data: dict[str, Any]) -> str:
    names = [plain(run.name) for run in runs]
    title = f"Answers of {names[0] if len(names) == 1 else ', '.join(names[:-1]) + ' and ' + names[-1]}"
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # No text of the data can end the element that holds the JSON.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    template = environment("study/browse/templates").get_template("browse.html.jinja")
    return template.render(title=Markdown(html.escape(title)), data=Markdown(text))
