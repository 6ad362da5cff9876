"""Run every test without the network, seeded, with its own caches, and with a Hub on loopback."""

import gc
import os
import sys
import tempfile

from minihub import MiniHub

gc.disable()  # Imports make half a million objects that stay. Collections among them took a quarter of the time.
TOKEN = "hf_" + "m" * 34  # the shape of a real one
assert "huggingface_hub" not in sys.modules, "huggingface_hub was imported before it was told of the Hub on loopback"
HUB = MiniHub().start()  # each process of pytest-xdist has its own
HUB.add_user("me", TOKEN, orgs=("lab",))
HUB.add_user("reader", "hf_" + "r" * 34, role="read")

# Read by the libraries when they are imported, so set before pytest imports any test. With a Hub that is always there,
# offline mode would only hide which test asks it for something.
for name in (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
):
    os.environ.pop(name, None)
os.environ |= {
    "HF_ENDPOINT": HUB.url,
    "HF_HOME": tempfile.mkdtemp(prefix="hf_clip_kd_tests_"),
    "HF_HUB_DISABLE_XET": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # `datasets` would tell a server of each load.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "TOKENIZERS_PARALLELISM": "false",
}
# pytest-xdist's workers share the cores: more threads than cores are many times slower. Each worker sets this anew:
# it gets the environment of the process that started it, which has all cores.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if workers > 1 or "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(min(2, max(1, (os.cpu_count() or 1) // workers)))

import itertools  # noqa: E402
import random  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import types  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from selection import (  # noqa: E402, F401 (hooks of pytest)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

CACHES = (Path(os.environ["HF_HOME"]) / f"test-{number}" for number in itertools.count())


def pytest_collection_finish():
    """Freeze all that was imported, so that garbage collections of the tests pass over it."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()
    HUB.stop()
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def short_garbage_collection():
    """Freeze what the modules before have left, so that the many garbage collections of a Trainer pass over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    import numpy as np  # here, since the process that only hands tests to others needs neither
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` also keeps a stack trace for each kind of device.
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture
def undrawn(monkeypatch):
    """Weights of new models have any values, for a test of their shapes alone. Those of large ones take seconds."""
    for name in ("normal_", "uniform_", "erfinv_"):
        monkeypatch.setattr(f"torch.Tensor.{name}", lambda tensor, *args, **options: tensor)


@pytest.fixture(autouse=True)
def own_caches(monkeypatch):
    """Empty caches for the test and for the processes it starts."""
    home = next(CACHES)
    for name, folder in {
        "HF_HOME": home,
        "HF_HUB_CACHE": home / "hub",
        "HF_DATASETS_CACHE": home / "datasets",
        "HF_MODULES_CACHE": home / "modules",
        "TORCH_HOME": home / "torch",
    }.items():
        monkeypatch.setenv(name, str(folder))
    if "datasets" in sys.modules:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(home / "datasets"))


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    """A model's cost is timed for three calls and no second more."""
    if cost := sys.modules.get("hf_clip_kd.evaluation.cost"):
        monkeypatch.setitem(cost.measure_cost.__wrapped__.__kwdefaults__, "seconds", 0.0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection that leaves this machine fails the test, also where a library would swallow the error."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"A test tried to reach {address}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def wipe_cache(tmp_path_factory, monkeypatch):
    """Return a function that empties the Hub's cache of this process, as for a newcomer."""

    def wipe():
        folder = str(tmp_path_factory.mktemp("hub_cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", folder)
        monkeypatch.setenv("HF_HUB_CACHE", folder)

    wipe()
    return wipe


@pytest.fixture
def hub(monkeypatch, wipe_cache):
    """Give an empty [`MiniHub`] with its user `me` logged in. `hub.slept` notes the client's waits, done in no time.

    The test fails if the client asks for an unknown endpoint, or pushes a token.
    """
    HUB.reset()
    HUB.slept = []
    HUB.token = TOKEN
    clock = types.SimpleNamespace(sleep=HUB.slept.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield HUB
    assert HUB.unknown == [], "the client asked for what the Hub on loopback does not know"
    for repo in HUB.repos.values():
        for commit in repo.commits.values():
            leaks = [path for path, file in commit.files.items() if any(t.encode() in file.data for t in HUB.users)]
            assert not leaks, f"a token was pushed to {repo.id}: {leaks}"


@pytest.fixture(scope="session")
def context():
    """A warmed-up process to fork runs from that are killed, see `helpers/crashing.py`."""
    from processes import servers

    return servers()
