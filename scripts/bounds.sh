#!/usr/bin/env bash
# Tests what the two pyproject.toml promise: the lowest versions that they allow, and the newest
# Python on this machine, if it is newer than the one of .venv. A selection of the tests, one of each
# kind; .venv-lowest and .venv-newest are made again when what they are made from changes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

TESTS=(server/tests/contract server/tests/config server/tests/records server/tests/http/serving
    server/tests/http/api/test_metrics.py server/tests/http/websocket/test_conformance.py
    server/tests/cli/test_commands.py sdk/python/tests/core sdk/python/tests/realtime)
uv=(.venv/bin/uv)

# make_env FOLDER PYTHON REQUIREMENTS: both packages from here, over exactly these requirements.
make_env() {
    local stamp
    stamp=$(cat "$3" server/pyproject.toml sdk/python/pyproject.toml | sha256sum | cut -c 1-64)
    if [[ "$(cat "$1/.made" 2>/dev/null)" != "$stamp" ]]; then
        rm -rf "$1"
        "${uv[@]}" venv --quiet --python "$2" "$1"
        timed "Installing into $1" \
            "${uv[@]}" pip install --quiet --python "$1/bin/python" --requirement "$3"
        "${uv[@]}" pip install --quiet --python "$1/bin/python" --no-deps \
            --editable server --editable sdk/python
        echo "$stamp" >"$1/.made"
    fi
}

# run_tests FOLDER
run_tests() {
    echo "make: tests with $("$1/bin/python" --version) in $1"
    # One backend of each kind: several nodes and databases use the same libraries.
    "$1/bin/python" -m pytest -n "${JOBS:-2}" --dist worksteal -m "not soak" -k "not spread and not nodes" \
        "${TESTS[@]}"
}

lowest=$(mktemp)
trap 'rm -f "$lowest"' EXIT
# The tools of the tests as locked: only what users install is at its lowest.
{
    "${uv[@]}" pip compile --quiet --resolution lowest-direct --python-version 3.11 --no-header \
        --no-annotate --no-emit-package resonantgenesis --extra mcp --extra llm --extra s3 \
        --extra postgres server/pyproject.toml sdk/python/pyproject.toml
    printf '%s\n' pytest pytest-xdist hypothesis pyyaml psutil trustme jsonschema-rs hatchling \
        standardwebhooks
} >"$lowest"
make_env .venv-lowest .venv/bin/python "$lowest"
run_tests .venv-lowest

# On the path, or where pyenv keeps them: its own commands refuse what is not switched on.
here=$(.venv/bin/python -c 'import sys; print(sys.version_info.minor)')
for minor in 15 14 13 12; do
    ((minor > here)) || break
    for found in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
        "$found" -c 'import sys, venv' 2>/dev/null || continue
        make_env .venv-newest "$(command -v "$found")" requirements/dev.txt
        run_tests .venv-newest
        break 2
    done
done
