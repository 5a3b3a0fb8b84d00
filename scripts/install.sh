#!/usr/bin/env bash
# install.sh NAME…: installs requirements/NAME.txt, exactly what was locked, and both packages.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
files=()
for name in "$@"; do
    files+=(--requirement "requirements/$name.txt")
done
count=$(cd requirements && cat "${@/%/.txt}" | grep -c == || true)
timed "Installing into .venv: $* ($count packages)" "${pip[@]}" install --require-hashes "${files[@]}"
timed "Installing into .venv: the server and the Python SDK, from here" \
    "${pip[@]}" install --no-deps --no-build-isolation --editable server --editable sdk/python
