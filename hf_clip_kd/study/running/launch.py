"""Facts of `accelerate launch` that the outcome of a stage depends on."""

from __future__ import annotations

from typing import Any

from ...recipe_io.foreign import read_yaml

# Values of plain Python: one process in the recipe's own precision.
PLAIN = {"distributed_type": "NO", "num_processes": 1, "mixed_precision": "no"}


def launch_of(path: str | None) -> dict[str, Any]:
    """
    Return the engine, the number of processes and the precision that a file for `accelerate launch` sets.

    The contrastive batch holds the pictures of all processes, so another number of them trains another student.

    Args:
        path (`str`, *optional*): The file.

    Returns:
        `dict`: Values that differ from those of plain Python. It is empty without a file, and for a file that starts
        one process.

    Raises:
        ForeignFileError: The file is no YAML with a mapping.
    """
    if path is None:
        return {}
    content = read_yaml(
        path,
        allowed="It must be a file for `accelerate launch --config_file`.",
        fix="Correct `accelerate_config`, or leave it out.",
    )
    found = {name: content.get(name) or usual for name, usual in PLAIN.items()}
    if found["distributed_type"] == PLAIN["distributed_type"]:
        found["num_processes"] = 1  # Accelerate starts a single one then, whatever the file says.
    return {name: value for name, value in found.items() if value != PLAIN[name]}
