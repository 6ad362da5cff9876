"""Memory that a process keeps, counted in the pages that the kernel has to give it."""

import os
import subprocess
import sys

COUNT = """
import resource
import torch
from hf_clip_kd.recipe_io.freed_memory import keep_freed_memory

torch.accelerator.is_available = lambda: False
if {keep}:
    keep_freed_memory()
for _ in range(3):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep, **variables):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    command = [sys.executable, "-c", COUNT.format(keep=keep)]
    return int(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


def test_a_tensor_of_a_known_size_needs_no_new_page():
    plain = page_faults(False)
    assert plain > 1000
    assert page_faults(True) < plain / 100
    # A user who sets the allocator has the last word.
    assert page_faults(True, MALLOC_ARENA_MAX="2") > plain / 2
