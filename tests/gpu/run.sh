#!/usr/bin/env bash
# Measure a bare machine with a GPU in 15 minutes: correctness, then speed beside open_clip, then memory of the losses.
#
#   tests/gpu/run.sh                     # outputs/gpu.json, on the GPU
#   tests/gpu/run.sh cpu outputs/gpu.json --tiny   # the same road on a CPU, with the smallest models
#
# The JSON is written after each part, so a run that is cut short still counts. A part that is in the file is not
# repeated.
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cuda} out=${2:-outputs/gpu.json}
shift $(($# < 2 ? $# : 2))

python=${PYTHON:-.venv/bin/python}
if ! "$python" -c 'import torch, transformers, open_clip_train' 2>/dev/null; then
    python3 -m venv --system-site-packages .venv # a machine with torch keeps it
    .venv/bin/python -m pip install --quiet -e '.[dev,bench]'
    python=.venv/bin/python
fi
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} exec "$python" tests/gpu/measure.py "$device" "$out" "$@"
