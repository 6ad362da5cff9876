"""Several processes on gloo, as torchrun would make them; each leaves in a file what came out."""

import faulthandler
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from unittest.mock import patch

import datasets
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ports import free_port


def servers():
    """Return a context that forks processes from one that has all imported: imports are nearly all that they cost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_runs", "engine_runs", "llava_runs", "pytest"])
    # Libraries would start several threads at their import, and a fork has none of them.
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), OMP_NUM_THREADS="1"):
        ensure_running()
    return context


def launch(function, processes, folder, *args, seconds=120, crashes=0):
    """
    `function(rank, processes, port, folder, *args)` on as many processes; its result files are what counts.

    A process that ends by a signal has crashed in a library. As many launches as `crashes` are forgotten for that.
    A warning says so, the folder is emptied, and all processes start again.
    """
    servers()
    here = (dict(os.environ), os.getcwd(), datasets.config.HF_DATASETS_CACHE)
    arguments = (here, function, processes, free_port(), str(folder), *args)
    context = mp.start_processes(_watched, arguments, nprocs=processes, join=False, start_method="forkserver")
    deadline = time.monotonic() + seconds
    crash = None
    try:
        while not context.join(timeout=max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Processes still run after {seconds} seconds:\n{_stacks(context, folder)}")
    except mp.ProcessExitedException as error:
        crash = f"{error}\n{_read_stacks(folder)}"
        print(crash)  # see `leave`; where there is no result, the reader of the file says so
    finally:
        for process in context.processes:
            process.kill()
    if crash and crashes:
        warnings.warn(f"Launched again after a crash: {crash}", stacklevel=2)
        shutil.rmtree(folder)
        Path(folder).mkdir()
        return launch(function, processes, folder, *args, seconds=seconds, crashes=crashes - 1)
    return Path(folder)


def _watched(rank, here, function, processes, port, folder, *args):
    gc.freeze()  # Garbage collections pass over what the server has imported.
    environment, place, datasets.config.HF_DATASETS_CACHE = here  # The server has those of the first test.
    os.chdir(place)
    os.environ.clear()
    os.environ |= environment
    with open(f"{folder}/{rank}.stack", "w", encoding="utf-8") as file:
        faulthandler.enable(file)  # an abort in a library leaves its place
        faulthandler.register(signal.SIGUSR1, file=file)
        function(rank, processes, port, folder, *args)


def _stacks(context, folder):
    """Return where each process that still runs stands."""
    for process in context.processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGUSR1)
    time.sleep(2)
    return _read_stacks(folder)


def _read_stacks(folder):
    return "\n".join(f"{path.name}\n{path.read_text()}" for path in sorted(Path(folder).glob("*.stack")))


def join(rank, processes, port):
    """Become one of several processes; the Trainer starts their group."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",  # accelerate would set another number
    }


def leave():
    """End a process of a group."""
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.5)
    os._exit(0)  # gloo's threads abort now and then while the interpreter shuts down; the result file is what counts
