#!/usr/bin/env bash
# suite_under_load.sh [RUNS] [ARGS…]: the whole suite of Python so many times (20) in a row on a
# machine that is in its way: a busy loop for each processor, 1,024 open files, SIGINT ignored, and
# somebody else on port 8080. Ends at the first failure.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-20}
shift || true
processors=$(getconf _NPROCESSORS_ONLN)
jobs_of_ours=()
trap 'kill "${jobs_of_ours[@]}" 2>/dev/null || true' EXIT

for _ in $(seq "$processors"); do
    .venv/bin/python -c 'while True: pass' &
    jobs_of_ours+=($!)
done
# Taken by somebody already: all the better.
.venv/bin/python -c '
import http.server
try:
    http.server.ThreadingHTTPServer(("127.0.0.1", 8080), http.server.BaseHTTPRequestHandler).serve_forever()
except OSError:
    pass' 2>/dev/null &
jobs_of_ours+=($!)

ulimit -n 1024
trap '' INT
for run in $(seq "$runs"); do
    echo "run $run of $runs, under load"
    .venv/bin/pytest -n $((processors + 1)) --dist worksteal -m "not soak" "$@"
done
