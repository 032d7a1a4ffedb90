#!/usr/bin/env bash
# The suite with the lowest version that pyproject.toml allows of every direct dependency.
# Needs uv. PYTHON: version or path (3.11). VENV: where (.venv-lower-bounds); made anew.
# What follows is passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-3.11}
venv=${VENV:-.venv-lower-bounds}

uv venv --quiet --clear --python "$python" "$venv"
uv pip install --quiet --python "$venv" --resolution lowest-direct --editable ".[test]"
uv pip freeze --quiet --python "$venv"
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n "${JOBS:-2}" --dist worksteal -W default "$@"
