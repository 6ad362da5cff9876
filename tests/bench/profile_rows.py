"""
Show what takes the time of each row of the speed table.

It shows operations of torch in steps, and functions of Python in batches:

    python tests/bench/profile_rows.py                               # all rows
    python tests/bench/profile_rows.py "online step" --lines 20      # one of them
    python tests/bench/profile_rows.py --tiny                        # the smallest models, to try it

writes outputs/bench/profile.txt. A profile of steps begins after the first one.
"""

import argparse
import cProfile
import functools
import gc
import io
import itertools
import logging
import pstats
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import bench_batch_growth
import bench_cache_writing
import bench_cached_step
import bench_input_pipeline
import bench_llava_step
import online
import report
import torch
from bench_online_step import LIKE_OPEN_CLIP
from step_times import StepTimes

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.results import write_whole

SETTING = online.Setting(steps=2)
TINY = online.Setting(student="test-vit", teacher="tiny", batch=4, steps=1)


@contextmanager
def after_the_first_step(profile):
    """Start the profile at the end of the first step that any of the stopwatches sees."""
    with mock.patch.object(online.Stopwatch, "step", starting(online.Stopwatch.step, profile)):
        with mock.patch.object(StepTimes, "on_step_end", starting(StepTimes.on_step_end, profile)):
            yield
    profile.stop()


def starting(method, profile):
    steps = itertools.count()

    @functools.wraps(method)
    def wrapped(*args, **kwargs):
        method(*args, **kwargs)
        if next(steps) == 0:
            profile.start()

    return wrapped


def operations(profile, lines):
    """Return the operations that take the most time by themselves, and the GPU's kernels where there is one."""
    where = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    return profile.key_averages().table(sort_by=where, row_limit=lines, max_name_column_width=60)


def of_steps(train, lines):
    profile = torch.profiler.profile()
    with after_the_first_step(profile):
        train()
    return operations(profile, lines)


def of_cache_writing(setting, lines):
    processor = kd.load_clip(setting.student)[1]
    teacher = kd.CLIPTeacher(online.teacher_model(setting), processor=processor)
    rows = kd.load_image_text("shapes", max_samples=2 * setting.batch, image_size=224)
    with torch.profiler.profile() as profile:
        bench_cache_writing.written(teacher, rows, setting.batch)
    return operations(profile, lines)


def of_cached_step(setting, lines):
    names = setting.student, setting.teacher, setting.batch
    with tempfile.TemporaryDirectory() as folder:
        bench_cached_step.prepare(folder, *names, 1 + setting.steps + 1)
        return of_steps(lambda: bench_cached_step.child("cached", folder, *names, 1, setting.steps + 1), lines)


def of_batches(lines):
    """Profile the functions that read, crop and tokenize, without workers."""
    with tempfile.TemporaryDirectory() as folder:
        bench_input_pipeline.write_tars(Path(folder), bench_input_pipeline.SIZES[0], 64)
        loader = bench_input_pipeline.ours(Path(folder), workers=0)
        batches, profile = iter(loader), cProfile.Profile()
        next(batches)
        gc.collect()
        gc.freeze()  # Python would search all that earlier profiles have left, many times.
        profile.runcall(next, batches)
        gc.unfreeze()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(lines)
    return text.getvalue()


def of_imports(lines):
    """Return the modules whose import takes the most time by itself."""
    command = [sys.executable, "-X", "importtime", "-c", "import hf_clip_kd"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    head, *found = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    found.sort(key=lambda line: -int(line.split(":")[1].split("|")[0]))
    return "\n".join([head, *found[:lines]])


def rows(setting, pairs):
    """Return the function of each row: it takes a number of lines and returns the text."""
    like_open_clip = replace(setting, losses=LIKE_OPEN_CLIP)
    llava = bench_llava_step.child
    return {
        "online step": lambda lines: of_steps(lambda: online.ours(like_open_clip), lines),
        "open_clip's loop": lambda lines: of_steps(lambda: online.open_clip(setting), lines),
        "online step with clip_kd": lambda lines: of_steps(lambda: online.ours(setting), lines),
        "plain loop": lambda lines: of_steps(lambda: online.plain(setting), lines),
        "LLaVA step": lambda lines: of_steps(lambda: llava("ours", setting.batch, 2, setting.student), lines),
        "stock Trainer": lambda lines: of_steps(lambda: llava("stock", setting.batch, 2, setting.student), lines),
        "cache writing": lambda lines: of_cache_writing(setting, lines),
        "cached step": lambda lines: of_cached_step(setting, lines),
        "input": of_batches,
        "GradCache step": lambda lines: of_steps(lambda: bench_batch_growth.grad_cache(pairs), lines),
        "import": of_imports,
    }


def main(argv=None):
    """Profile the rows, print what was found, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"Rows: {', '.join(rows(SETTING, 1))}. Default: all.")
    parser.add_argument("--lines", type=int, default=12, help="Lines of each row. Default: 12.")
    parser.add_argument("--tiny", action="store_true", help="The smallest models.")
    given = parser.parse_args(argv)
    known = rows(*((TINY, 128) if given.tiny else (SETTING, 1024)))
    unknown = [name for name in given.rows if name not in known]
    if unknown:
        parser.error(f"{unknown[0]!r} is no row. Rows are {', '.join(known)}. Name some of them, or none for all.")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    online.use_all_cores()
    texts = [f"== {name} ==\n{known[name](given.lines)}\n" for name in given.rows or known]
    write_whole(report.OUTPUTS / "profile.txt", "\n".join(texts))
    print("\n".join(texts))


if __name__ == "__main__":
    main()
