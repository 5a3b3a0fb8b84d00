#!/usr/bin/env bash
# Makes .venv with the first Python from 3.11 on that is found; PYTHON=… chooses another.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [[ -x .venv/bin/python ]] && usable .venv/bin/python; then
    exit 0
fi
if [[ -n "${PYTHON:-}" ]]; then
    candidates=("$PYTHON")
else
    candidates=(python3.11 python3.12 python3.13 python3.14 python3 python)
fi
for candidate in "${candidates[@]}"; do
    if command -v "$candidate" >/dev/null && usable "$candidate"; then
        # Not --clear: a folder left half made by an interrupted run is replaced whole.
        rm -rf .venv
        timed "Making .venv with $("$candidate" --version)" "$candidate" -m venv .venv
        exit 0
    fi
done
echo "make: needs Python 3.11 or newer with its venv module; tried: ${candidates[*]}." >&2
echo "make: install it (Debian: apt-get install python3 python3-venv) or set PYTHON=/path/to/python3." >&2
exit 1
