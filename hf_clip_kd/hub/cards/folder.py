"""Facts about the model or the teacher cache in a folder, read from its files."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from ...losses.specification import defects
from ...recipe_io.foreign import ForeignFileError
from ...recipe_io.results import read_written
from .loading import loading
from .markdown import Markdown, code, plain, public, table
from .scores import own_scores, scores_in
from .sources import Source, data_entries, data_name, read_recipe, sources, without_paths

FACTS_NAME = "card.json"
CACHE_NAMES = ("cache.json", "teacher_cache/cache.json")
# Files that a card shows values of, beside those in `results`.
READ = ("config.json", *CACHE_NAMES, "recipe.yaml", "training_args.json", FACTS_NAME, "cost.json", "parity.json")
READ += ("representation.json", "tokenizer_config.json")
# Keys of a recipe that a card shows, and their labels.
SETTINGS = {
    "stage": "stage",
    "max_steps": "optimizer steps",
    "num_train_epochs": "passes over the data",
    "per_device_train_batch_size": "batch per device",
    "gradient_accumulation_steps": "accumulated batches",
    "grad_cache": "accumulated batches are one batch for the losses",
    "learning_rate": "learning rate",
    "vision_learning_rate": "learning rate of the vision tower",
    "projector_learning_rate": "learning rate of the projector",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warm-up",
    "weight_decay": "weight decay",
    "adam_beta2": "beta2 of AdamW",
    "max_logit_scale": "largest scale of similarities",
    "init_from_teacher": "parts that start with the teacher's weights",
    "teacher_dtype": "precision of the teacher",
    "crop_scale": "share of the image in a crop",
    "flip": "probability of a mirrored image",
    "vision_feature_layer": "layer of the tower that is read",
    "tune_vision_tower": "vision tower trained",
    "normalize_features": "features of the tower scaled to unit size",
    "template": "template",
    "lora": "LoRA",
    "quantization": "quantization",
    "dtype": "precision of the weights",
    "seed": "seed",
}


def files_of(folder: Path) -> list[str]:
    """Return the files of a folder that its card shows values of, as paths in the folder."""
    names = [name for name in READ if (folder / name).is_file()]
    return names + sorted(f"results/{path.name}" for path in folder.glob("results/*.json"))


class CardFolder:
    """
    Contents of a folder; only a `config.json`, or `cache.json` of a teacher cache, is required.

    Args:
        folder (`Path`): A run of `distill.py` or `train_vlm.py`, an exported model, or a teacher cache.

    Raises:
        ValueError: The folder is none of these.
    """

    def __init__(self, folder: Path):
        self.path = folder
        self.cache = next((found for name in CACHE_NAMES if (found := self._json(name))), {})
        self.config = self._json("config.json")
        if not (self.cache or self.config):
            raise ForeignFileError(
                f"The folder {str(folder)!r} has nothing that a card could describe. It must be that of a model, with "
                "a config.json, or of a teacher cache, with a cache.json. Give the `output_dir` of a run."
            )
        self.recipe = self._json("training_args.json") | read_recipe(folder)
        self.facts = self._json(FACTS_NAME)
        self.scores = [own_scores(record) for record in scores_in(folder / "results")]
        self.cost, self.parity = self._json("cost.json"), self._json("parity.json")
        self.representation = self._json("representation.json")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return read_written(path) if path.is_file() else {}

    @property
    def kind(self) -> str:
        """Name of its template."""
        if self.cache:
            return "teacher_cache"
        return "vlm" if self.config["model_type"].startswith("llava") else "student"

    @cached_property
    def sources(self) -> list[Source]:
        """Sources at the time of the first card; their folders may be gone since."""
        if "sources" in self.facts:
            return [Source(*entry) for entry in self.facts["sources"]]
        return without_paths(sources(self.recipe), None, self.recipe)

    def of_role(self, role: str) -> list[Source]:
        return [source for source in self.sources if source.role == role]

    @property
    def has_recipe(self) -> bool:
        return (self.path / "recipe.yaml").is_file()

    @property
    def place(self) -> str:
        """Name of the folder or Hub id in the examples."""
        if repo_id := self.facts.get("repo_id"):
            return repo_id.rstrip("/")
        given = PurePath(self.recipe.get("output_dir") or ".")
        # `.` and `..` name no folder to a reader of the card.
        return public(given if re.search(r"\w", given.name) else self.path.resolve())

    def loading(self) -> dict[str, Any]:
        return loading(self.path, self.config, self.place, "repo_id" in self.facts)

    @property
    def name(self) -> str:
        return plain(self.facts.get("name") or "") or plain(self.place.rpartition("/")[2]) or "model"

    @property
    def origins(self) -> list[Source]:
        """Sources without sources of their own; a folder trained here is replaced by what it was made of."""
        return [source for source in self.sources if not self._is_made_of_others(source)]

    def _is_made_of_others(self, source: Source) -> bool:
        return any(other.role.endswith(f" of {source.name}") for other in self.sources)

    @property
    def procedural(self) -> bool:
        """`True` if all training images are drawings of the embedded world."""
        data = [source.name for source in self.of_role("data")]
        return bool(data) and set(data) == {"shapes"}

    @property
    def defects(self) -> list[Markdown]:
        """Switches of published defects that the training of a student had on."""
        if self.kind != "student" or self.recipe.get("losses") is None:
            return []
        crops = ["independent_crops"] if self.recipe.get("independent_crops") else []
        return [code(name) for name in [*defects(self.recipe["losses"]), *crops]]

    @property
    def answers_questions(self) -> bool:
        """`True` if its scores include those of visual question answering."""
        return any(record["task"].startswith("vqa_") for record in self.scores)

    @property
    def pretrained(self) -> bool:
        """`True` if it, or its teacher, was trained by others and may know more than its data."""
        return any(not source.role.startswith("data") for source in self.origins)

    def settings(self) -> list[tuple[str, Any]]:
        """Return the training set-up in the order of `SETTINGS`, without unset values."""
        rows = []
        accumulates = self.recipe.get("gradient_accumulation_steps", 1) > 1
        hidden = "num_train_epochs" if self.recipe.get("max_steps", -1) > 0 else "max_steps"
        for key, label in SETTINGS.items():
            value = self.recipe.get(key)
            if value is None or value is False or value in ([], {}) or key == hidden:
                continue
            if key in ("gradient_accumulation_steps", "grad_cache") and not accumulates:
                continue
            rows.append((label, _setting(value)))
        mixed = [name for name in ("bf16", "fp16") if self.recipe.get(name)]
        return rows + [("mixed precision", name) for name in mixed]

    def towers(self) -> list[Markdown]:
        """Return one line on each part of a model, from its `config.json`."""
        vision, text = self.config.get("vision_config", {}), self.config.get("text_config", {})
        lines = []
        if vision:
            kind = vision.get("architecture") or vision.get("model_type", "")
            size = vision.get("image_size", "?")
            lines.append(f"image tower {code(kind)}, {size} x {size} pixels, {_shape(vision)}")
        if text:
            length = text.get("max_position_embeddings")
            if self.kind != "vlm":  # RoBERTa's towers have positions that no token takes
                length = self._json("tokenizer_config.json").get("model_max_length", length)
            tokens = f", at most {length} tokens" if length else ""
            role = "language model" if self.kind == "vlm" else "text tower"
            lines.append(f"{role} {code(text.get('model_type', ''))}, {_shape(text)}{tokens}")
        if "projection_dim" in self.config:
            lines.append(f"joint embedding, {self.config['projection_dim']} wide")
        return [Markdown(line) for line in lines]

    def data(self) -> list[Markdown]:
        """Return one line on each training data set, with its weight if there are several."""
        by_name = {source.name: source for source in self.of_role("data")}
        lines = []
        for entry in data_entries(self.recipe):
            source = by_name.get(public(data_name(entry)), Source("data", public(data_name(entry))))
            details = [f"split {code(entry['split'])}"] if entry.get("split") else []
            if samples := entry.get("max_train_samples") or entry.get("max_samples"):
                details.append(f"the first {samples} images")
            if entry.get("label_template") and entry.get("text_column") == "label":
                details.append(f"captions made of labels by {code(entry['label_template'])}")
            if "weight" in entry:
                details.append(f"weight {entry['weight']:g}")
            lines.append(Markdown(", ".join([shown(source), *details])))
        return lines


def _shape(config: dict[str, Any]) -> str:
    layers = config.get("num_hidden_layers")
    depth = "" if layers is None else f"{layers} layer{'s' * (layers != 1)}, "
    return f"{depth}{config.get('hidden_size', '?')} wide"


def _setting(value: Any) -> Any:
    if isinstance(value, list):
        separator = " to " if isinstance(value[0], float) else ", "
        return separator.join(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return code(json.dumps(value)) if isinstance(value, dict) else "yes" if value is True else value


def shown(source: Source) -> Markdown:
    """Return the name of a source, with a link to the Hub if it is there."""
    if source.hub is None:
        return code(source.name)
    kind = "datasets/" if source.role.startswith("data") else ""
    return Markdown(f"[{code(source.name)}](https://huggingface.co/{kind}{source.hub})")


def nested_table(rows: dict[str, dict[str, Any]]) -> Markdown:
    """Return a table of a dict of dicts: outer keys are rows, inner keys at any depth are columns."""
    flat = {name: dict(_flat(values)) for name, values in rows.items()}
    columns = list(dict.fromkeys(column for values in flat.values() for column in values))
    cells = [[code(name), *(_cell(values.get(column)) for column in columns)] for name, values in flat.items()]
    return table(["", *(column.replace("_", " ") for column in columns)], cells)


def _flat(values: dict[str, Any], prefix: str = ""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        elif isinstance(value, int | float | str):
            yield prefix + key, value


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else plain(value)
