#!/usr/bin/env bash
# Makes .venv-frameworks: the server beside the libraries whose agents its adapters serve.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

uv=(.venv/bin/uv)
# A folder left half made by an interrupted run is replaced whole.
rm -rf .venv-frameworks
"${uv[@]}" venv --quiet --python .venv/bin/python .venv-frameworks
timed "Installing into .venv-frameworks, for agents of other libraries" \
    "${uv[@]}" pip install --quiet --python .venv-frameworks/bin/python --require-hashes \
    --requirement requirements/frameworks.txt
"${uv[@]}" pip install --quiet --python .venv-frameworks/bin/python --no-deps --no-build-isolation \
    --editable server --editable sdk/python
