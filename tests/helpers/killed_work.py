"""The table of work that a test kills and starts again. It imports nothing, so that a command starts in an instant."""

from dataclasses import dataclass, field

STEPS = 8


@dataclass(frozen=True)
class Work:
    """Work that is killed."""

    says: str = field(metadata={"help": "Its row in the table of what was survived."})
    make: str = field(metadata={"help": "Function of killed_runs.py: makes a trainer, or does all the work."})
    prepare: str | None = field(default=None, metadata={"help": "Function that writes what all lives share."})
    processes: int = 1
    changes: dict = field(default_factory=dict)
    engine: str | None = None
    phases: tuple = ("other", "data", "forward", "optimizer", "saving", "rotating")
    disk: bool = field(default=False, metadata={"help": "The disk is full now and then."})


ANY_MOMENT = {"phases": ()}
WORK = {
    "map": Work("training a student", "on_a_map"),
    "map, DDP": Work("training a student under DDP, 2 processes", "on_a_map", processes=2),
    "map, full disk": Work("training a student, with a full disk", "on_a_map", disk=True),
    "DDP, full disk": Work("training under DDP, with a full disk", "on_a_map", processes=2, disk=True),
    "stream": Work("training on a stream, 2 workers", "on_a_stream", "write_stream"),
    "stream, DDP": Work("training on a stream under DDP, 2 processes", "on_a_stream", "write_stream", 2),
    "cache": Work("training from a teacher cache", "from_a_cache", "write_cache"),
    "ZeRO-2": Work("training under ZeRO-2, 2 processes", "on_a_map", processes=2, engine="zero2"),
    "ZeRO-2, full disk": Work("training under ZeRO-2, full disk", "on_a_map", processes=2, engine="zero2", disk=True),
    "stream, full disk": Work("training on a stream, with a full disk", "on_a_stream", "write_stream", disk=True),
    "cache, full disk": Work("training from a teacher cache, full disk", "from_a_cache", "write_cache", disk=True),
    "llava": Work("training a LLaVA", "of_a_llava", changes={"lora": None}),
    "llava, full disk": Work("training a LLaVA, with a full disk", "of_a_llava", changes={"lora": None}, disk=True),
    "llava, LoRA, DDP": Work("training a LLaVA with LoRA under DDP, 2 processes", "of_a_llava", processes=2),
    "llava, ZeRO-2": Work(
        "training a LLaVA under ZeRO-2, 2 processes", "of_a_llava", None, 2, {"lora": None}, engine="zero2"
    ),
    "push": Work("training and pushing each checkpoint", "pushed", phases=("saving", "rotating", "pushing")),
    "cache_teacher.py": Work("cache_teacher.py", "caching", "write_student", **ANY_MOMENT),
    "cache_teacher.py, full disk": Work(
        "cache_teacher.py, with a full disk", "caching", "write_student", disk=True, **ANY_MOMENT
    ),
    "cache_teacher.py, 2": Work("cache_teacher.py, 2 processes", "caching", "write_student", 2, **ANY_MOMENT),
    "evaluate.py": Work("evaluate.py", "evaluating", "write_student", **ANY_MOMENT),
    "evaluate.py, full disk": Work(
        "evaluate.py, with a full disk", "evaluating", "write_student", disk=True, **ANY_MOMENT
    ),
    "push.py": Work("push.py", "pushing_a_folder", "write_student", **ANY_MOMENT),
    "push.py, full disk": Work(
        "push.py, with a full disk", "pushing_a_folder", "write_student", disk=True, **ANY_MOMENT
    ),
}
