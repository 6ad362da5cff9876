"""Facts that every benchmark writes beside its numbers, and the folder for them."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

OUTPUTS = Path(__file__).parents[2] / "outputs" / "bench"


def machine(*packages, threads=1):
    """Describe the machine of the measurement, with the versions of the packages that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write(name, result):
    """Write outputs/bench/NAME.json, print it and return the result."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    (OUTPUTS / f"{name}.json").write_text(text + "\n")
    print(text)
    return result
