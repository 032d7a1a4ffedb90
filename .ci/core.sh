#!/usr/bin/env bash
# The core alone: every module imports without an extra, and with the tools of the tests the suite
# passes; what needs an extra or TorchJD skips. Needs uv. PYTHON, VENV and arguments as in
# lower_bounds.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-3.12}
venv=${VENV:-.venv-core}

uv venv --quiet --clear --python "$python" "$venv"
uv pip install --quiet --python "$venv" --constraints constraints.txt --editable .
"$venv/bin/python" .ci/import_all.py
uv pip install --quiet --python "$venv" --constraints constraints.txt \
    pytest pytest-timeout pytest-xdist scikit-learn scikit-image pycocotools
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n "${JOBS:-2}" --dist worksteal "$@"
