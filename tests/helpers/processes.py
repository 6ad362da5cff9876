"""Several processes on gloo, as torchrun would make them; each leaves in a file what came out."""

import os
import socket
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(function, processes, folder, *args, seconds=120):
    """`function(rank, processes, port, folder, *args)` on as many processes; its result files are what counts."""
    context = mp.spawn(function, (processes, free_port(), str(folder), *args), nprocs=processes, join=False)
    deadline = time.monotonic() + seconds
    try:
        while not context.join(timeout=max(0.0, deadline - time.monotonic())) and time.monotonic() < deadline:
            pass
    except mp.ProcessExitedException:
        pass  # see `leave`; where there is no result, the reader of the file says so
    finally:
        for process in context.processes:
            process.kill()
    return Path(folder)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


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
        "OMP_NUM_THREADS": "1",  # Accelerate would set it otherwise.
    }


def leave():
    """End a process of a group."""
    dist.barrier()
    dist.destroy_process_group()
    time.sleep(0.5)
    os._exit(0)  # gloo's threads abort now and then while the interpreter shuts down; the result file is what counts
