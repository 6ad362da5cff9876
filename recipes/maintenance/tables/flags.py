"""Flags: one row for each reason to refuse some, and one for each answer to a change on resume."""

from hf_clip_kd.training.flags import FREE, NEVER, RESUME, SAME, TAKEN
from hf_clip_kd.training.refusals import REFUSED, Refusal

from .markdown import render

SHORT = {
    SAME: "refused; taken with `allow_changed_resume`",
    NEVER: "refused",
    TAKEN: "taken",
    FREE: "taken; the training does not depend on it",
}


def refused() -> str:
    """Return the table of refused flags."""
    names: dict[Refusal, list[str]] = {}
    for name, refusals in REFUSED.items():
        for refusal in refusals:
            values = refusal.values.split()
            names.setdefault(refusal, []).extend(f"`{name}={value}`" for value in values)
            names[refusal].extend([] if values else [f"`{name}`"])
    rows = [(", ".join(flags), " and ".join(refusal.trainers), refusal.why) for refusal, flags in names.items()]
    return render(("flag", "refused for", "because"), rows)


def resumed() -> str:
    """Return the table of answers to a flag that has changed since the checkpoint."""
    rows = [
        (text, ", ".join(f"`{name}`" for name, rule in RESUME.items() if rule == answer))
        for answer, text in SHORT.items()
    ]
    return render(("a change is", "flags"), rows)
