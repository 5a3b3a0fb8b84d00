#!/usr/bin/env bash
# Rewrites requirements/*.txt from requirements/*.in: exact versions with hashes, for every
# platform and Python from 3.11 on. Pins stay unless told otherwise: make lock ARGS=--upgrade
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@"
}

# The widest set first; the others then take their versions from it.
compile "$@" requirements/dev.in --output-file requirements/dev.txt
for name in sdk server llm image build; do
    compile --constraints requirements/dev.txt "requirements/$name.in" \
        --output-file "requirements/$name.txt"
done
# By themselves: the guide's samples, and the agents of others, need an older release of what the
# rest has. A real model needs nothing of it.
for name in guide frameworks model; do
    compile "$@" "requirements/$name.in" --output-file "requirements/$name.txt"
done

if grep --extended-regexp --line-number '://|index-url|find-links' requirements/*.txt; then
    echo "the lock files must name no hosts" >&2
    exit 1
fi
