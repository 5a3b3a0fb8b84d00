#!/usr/bin/env bash
# Makes .venv-guide: the user's guide's samples run with the websockets release of their time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

# A folder left half made by an interrupted run is replaced whole.
rm -rf .venv-guide
.venv/bin/python -m venv .venv-guide
timed "Installing into .venv-guide, for the user's guide's samples" \
    .venv-guide/bin/python -m pip --disable-pip-version-check --quiet \
    install --require-hashes --requirement requirements/guide.txt
