#!/usr/bin/env bash
# Installs exactly what package-lock.json names into node_modules. Needs Node 20.19 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

usable() {
    command -v npm >/dev/null &&
        node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
}

if ! usable; then
    echo "make: the TypeScript packages need Node 20.19 or newer with npm." >&2
    echo "make: install it (Debian 13: apt-get install nodejs npm); the server does without." >&2
    exit 1
fi
count=$(grep -c '"node_modules/' package-lock.json || true)
timed "Installing into node_modules ($count packages)" npm ci --no-audit --no-fund --loglevel=error
