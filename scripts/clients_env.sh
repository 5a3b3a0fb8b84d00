#!/usr/bin/env bash
# Installs the clients that people have into tests/clients/node_modules, in the versions of its lock.
set -euo pipefail
cd "$(dirname "$0")/../tests/clients"
. ../../scripts/timed.sh
count=$(grep -c '"node_modules/' package-lock.json)
timed "Installing other people's clients for the tests ($count packages)" \
    npm ci --no-audit --no-fund --loglevel=error
