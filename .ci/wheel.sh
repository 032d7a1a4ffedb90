#!/usr/bin/env bash
# Build the sdist and, from it, the wheel into dist/; install the wheel into a clean environment and
# use it from a folder where there is no source. Needs uv. PYTHON and VENV as in lower_bounds.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-3.12}
venv=$(realpath -m "${VENV:-.venv-wheel}")

rm -rf dist build
uv build --quiet --python "$python"
uv venv --quiet --clear --python "$python" "$venv"
uv pip install --quiet --python "$venv" --constraints constraints.txt dist/visionmtl-*.whl

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$venv/bin/visionmtl" --version
"$venv/bin/visionmtl" zoo list
"$venv/bin/visionmtl" predict --model rooms3d_efficientnet_lite0 \
    "$root/assets/photos/coffee.png" --output predictions
ls predictions
