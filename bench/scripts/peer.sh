#!/usr/bin/env bash
# peer.sh python|system|node|centrifuge|centrifugo …: installs one kind of peer under .work. Never fails:
# why one could not be installed is left in .work/NAME.absent, which the report quotes.
set -uo pipefail
cd "$(dirname "$0")/.."
work=$PWD/.work

# attempt NAME COMMAND…: runs it; its last line on failure becomes the reason.
attempt() {
    local name=$1 log="$work/$1.log"
    shift
    rm -f "$work/$name.absent"
    echo "Installing for the bench: $name"
    if ! timeout 900 "$@" >"$log" 2>&1; then
        tail -n 1 "$log" | cut -c 1-300 >"$work/$name.absent"
        echo "  cannot: $(cat "$work/$name.absent")"
    fi
}

install_python() {
    [[ -x "$work/venv/bin/python" ]] || "$1" -m venv "$work/venv"
    "$(dirname "$1")/uv" pip install --quiet --python "$work/venv/bin/python" --require-hashes \
        --requirement requirements-bench.txt
}

install_system() {
    local missing=()
    command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]] || missing+=(nginx-light)
    [[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ]] || missing+=(libnginx-mod-nchan)
    command -v redis-server >/dev/null || missing+=(redis-server)
    [[ ${#missing[@]} -eq 0 ]] && return
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "not installed, and only root can install it: apt-get install ${missing[*]}"
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # RUNLEVEL: start no service
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

install_node() {
    command -v npm >/dev/null || { echo "Node is not installed"; return 1; }
    cp peers/node/package.json peers/node/package-lock.json peers/node/.npmrc peers/node/*.mjs \
        "$work/node/"
    (cd "$work/node" && npm ci --ignore-scripts --no-fund --no-audit)
}

install_centrifugo() {
    command -v go >/dev/null || { echo "Go is not installed"; return 1; }
    GOBIN="$work/bin" GOTOOLCHAIN=local go install "$1"
}

install_centrifuge() {
    command -v go >/dev/null || { echo "Go is not installed"; return 1; }
    (cd peers/go && GOTOOLCHAIN=local go build -mod=readonly -o "$work/bin/centrifuge" .)
}

export -f install_python install_system install_node install_centrifugo install_centrifuge
export work
mkdir -p "$work/node" "$work/bin"
attempt "$1" bash -c "install_$1 ${2:-}"
