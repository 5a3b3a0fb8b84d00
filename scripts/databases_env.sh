#!/usr/bin/env bash
# Installs servers of PostgreSQL into tests/databases/node_modules, in the versions of its lock, for
# `make soak`. They run where Linux does, on x86-64.
set -euo pipefail
cd "$(dirname "$0")/../tests/databases"
. ../../scripts/timed.sh
timed "Installing PostgreSQL 14, 16, 17 and 18 for the tests (240 MB)" \
    npm ci --no-audit --no-fund --loglevel=error
