# Sourced by the other scripts.

# timed WHAT COMMAND…: runs the command; says what it does, on a terminal also for how long
# already, and in the end how long it took.
timed() {
    local what=$1 began=$SECONDS ticker='' status=0
    shift
    if [[ -t 1 ]]; then
        (while :; do printf '\r%s … %d s' "$what" $((SECONDS - began)); sleep 1; done) &
        ticker=$!
        # Whatever ends this script ends the ticker too.
        trap 'kill "$ticker" 2>/dev/null || true' EXIT
    else
        echo "$what …"
    fi
    "$@" || status=$?
    if [[ -n $ticker ]]; then
        kill "$ticker" 2>/dev/null || true
        wait "$ticker" 2>/dev/null || true
        trap - EXIT
        printf '\r\e[K'
    fi
    if [[ $status -eq 0 ]]; then
        echo "$what: done in $((SECONDS - began)) s"
    else
        echo "make: this failed: $what" >&2
    fi
    return "$status"
}
