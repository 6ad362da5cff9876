#!/usr/bin/env bash
# Measure a bare machine with a GPU in 15 minutes: correctness, then speed beside open_clip and memory of the losses.
#
#   tests/gpu/run.sh                               # outputs/gpu.json, on the GPU
#   tests/gpu/run.sh cuda outputs/gpu.json --minutes 8
#   tests/gpu/run.sh cpu outputs/gpu.json --tiny   # the same road on a CPU, with the smallest models
#
# The JSON is written after each part, so a run that is cut short still counts. A part that is in the file is not
# repeated.
#
# The script takes the first Python that has all packages: $PYTHON, that of .venv, or python3. If none has them, WHEELS
# names a folder of wheels for a machine without network. Otherwise pip installs what python3 lacks. To bring both:
#
#   git archive --prefix=hf_clip_kd/ -o slim.tar HEAD -- . ':!model_cards'   # 7 MB in the place of 95
#   pip wheel --wheel-dir wheels -c constraints.txt '.[bench]' pytest        # without those that the machine has
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cuda} out=${2:-outputs/gpu.json}
shift $(($# < 2 ? $# : 2))
needed='import accelerate, datasets, open_clip_train.train, pytest, timm, torch, torchvision, transformers'

has_all() { "$1" -c "$needed" 2>/dev/null; }

python=
for candidate in "${PYTHON:-python3}" .venv/bin/python python3; do
    if has_all "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ] && [ -n "${WHEELS:-}" ]; then
    python=${PYTHON:-python3}
    "$python" -m pip install --quiet --no-index --no-deps --target outputs/gpu_packages "$WHEELS"/*.whl
    export PYTHONPATH=$PWD/outputs/gpu_packages
elif [ -z "$python" ]; then
    python3 -m venv .venv
    # A virtual environment inside another one sees the base Python only. This file adds what python3 has.
    python3 -c 'import sys; print(*filter(None, sys.path[1:]), sep="\n")' \
        >"$(echo .venv/lib/python3*/site-packages)/outer.pth"
    .venv/bin/python -m pip install --quiet -e '.[dev,bench]'
    python=.venv/bin/python
fi
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} exec "$python" tests/gpu/measure.py "$device" "$out" "$@"
