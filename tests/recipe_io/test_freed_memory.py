"""Memory that a process keeps, counted in the pages that the kernel has to give it."""

import json
import os
import subprocess
import sys

COUNT = """
import os
import resource
import torch
from hf_clip_kd.recipe_io.freed_memory import keep_freed_memory

torch.accelerator.is_available = lambda: False
def pages():
    for _ in range(3):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [pages()]
os.environ["MALLOC_ARENA_MAX"] = "2"
keep_freed_memory()
found.append(pages())
del os.environ["MALLOC_ARENA_MAX"]
keep_freed_memory()
found.append(pages())
print(found)
"""


def test_a_tensor_of_a_known_size_needs_no_new_page():
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    printed = subprocess.run([sys.executable, "-c", COUNT], env=env, check=True, stdout=subprocess.PIPE, text=True)
    plain, with_a_variable_of_the_user, kept = json.loads(printed.stdout)
    assert plain > 1000
    assert with_a_variable_of_the_user > plain / 2
    assert kept < plain / 100
