#!/usr/bin/env bash
# The programs that tests need and pip cannot bring. As root on Debian they are installed when
# they are missing; elsewhere this says what to install. Under CI a missing one is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/timed.sh

quiet() { "$@" >/dev/null; }

# program=package
needed=(chromium=chromium nginx=nginx haproxy=haproxy caddy=caddy initdb=postgresql pgbouncer=pgbouncer strace=strace)

# Debian keeps PostgreSQL's programs off the path.
PATH=$PATH:/usr/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)
missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%=*}" >/dev/null || missing+=("${entry#*=}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    timed "Reading Debian's list of packages" apt-get update -qq
    install=(apt-get install -y -qq --no-install-recommends "${missing[@]}")
    timed "Installing from Debian: ${missing[*]}" quiet "${install[@]}"
    exit 0
fi
echo "make: the tests need ${missing[*]}, which only root can install here:" >&2
echo "make:   sudo apt-get install ${missing[*]}" >&2
if [[ -n "${CI:-}" ]]; then
    exit 1
fi
echo "make: going on; the tests that need them will fail." >&2
