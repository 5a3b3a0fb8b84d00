#!/usr/bin/env bash
# Runs all tests: beside Python's, which often wait for a process or a clock, those in TypeScript and
# then those of the bounds. What these say is shown at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

make=("${MAKE:-make}" --no-print-directory)
said=$(mktemp)
# A group of their own, so that nothing of them is left when this script ends.
set -m
{ "${make[@]}" test-typescript && "${make[@]}" test-bounds; } >"$said" 2>&1 </dev/null &
beside=$!
set +m
trap 'kill -- -"$beside" 2>/dev/null || true; rm -f "$said"' EXIT

status=0
"${make[@]}" test-python || status=$?
wait "$beside" || status=$?
cat "$said"
exit "$status"
