"""Students: one row for each preset, with its sizes counted on the model itself."""

from torch import nn

import hf_clip_kd as kd

from .markdown import render

HEADER = ("name", "pixels", "embedding", "image tower, M", "text tower, M", "all, M", "plain transformers")


def millions(*modules: nn.Module) -> str:
    """Return the number of parameters in millions."""
    return f"{sum(p.numel() for module in modules for p in module.parameters()) / 1e6:.2f}"


def row(name: str) -> tuple[str, ...]:
    """Return a student's cells under `HEADER`."""
    model, _ = kd.load_clip(name)
    return (
        f"`{name}`",
        str(model.config.vision_config.image_size),
        str(model.config.projection_dim),
        millions(model.vision_model, model.visual_projection),
        millions(model.text_model, model.text_projection),
        millions(model),
        "yes" if type(model).__module__.startswith("transformers.") else "no",
    )


def table() -> str:
    """Return the table, the real students first. Presets of the tests are left out."""
    names = [name for name in kd.list_models() if not name.startswith("test-")]
    names.sort(key=lambda name: name.startswith("shapes-"))
    return render(HEADER, map(row, names), right=HEADER[1:-1])
