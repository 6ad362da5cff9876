"""The YAMLs of recipes that a study names, each read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...recipe_io.foreign import read_yaml


class Yamls:
    """
    Arguments of recipes by the names of their YAMLs.

    Args:
        configs (`Path`): Folder in which the names of YAMLs start.
        estimates (`dict[str, float]`): Kind of stage to its seconds.
    """

    def __init__(self, configs: Path, estimates: dict[str, float]):
        self.configs, self.estimates = configs, estimates
        self._known: dict[Path, dict[str, Any]] = {}  # A grid names few files, each many times.

    def recipe(self, argument: str, spec: str | dict[str, Any], kind: str) -> tuple[dict[str, Any], float | None]:
        """
        Return the arguments of a YAML with the values that replace them, and the expected seconds.

        Args:
            argument (`str`): Argument of the study that names the YAML, for an error.
            spec (`str` or `dict`): Name or path of the YAML. Or a mapping with it as `recipe`, and the values.
            kind (`str`): Kind of the stage.

        Raises:
            ValueError: if there is no such YAML.
        """
        values = {"recipe": spec} if isinstance(spec, str) else dict(spec)
        name, seconds = values.pop("recipe", None), values.pop("seconds", self.estimates.get(kind))
        path = next((path for path in (Path(str(name)), self.configs / str(name)) if path.is_file()), None)
        if name is None or path is None:
            there = sorted(str(file.relative_to(self.configs)) for file in self.configs.glob("*/*.yaml"))
            raise ValueError(
                f"`{argument}`: {spec!r} names no YAML. It must be a path, or a name in {self.configs}, such as "
                f"{', '.join(there)}; with arguments that differ, a mapping: `{{recipe: NAME, max_steps: 100}}`. "
                "Correct it."
            )
        if path not in self._known:
            words = {"allowed": "It must hold the arguments of a recipe.", "fix": "Correct it."}
            self._known[path] = read_yaml(path, **words)
        # The study decides on the folder.
        return {key: value for key, value in (self._known[path] | values).items() if key != "output_dir"}, seconds
