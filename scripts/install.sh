#!/usr/bin/env bash
# install.sh NAME…: installs requirements/NAME.txt, exactly what was locked, and both packages.
set -euo pipefail
cd "$(dirname "$0")/.."

pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
files=()
for name in "$@"; do
    files+=(--requirement "requirements/$name.txt")
done
echo "Installing into .venv: $*"
"${pip[@]}" install --require-hashes "${files[@]}"
"${pip[@]}" install --no-deps --no-build-isolation --editable server --editable sdk/python
