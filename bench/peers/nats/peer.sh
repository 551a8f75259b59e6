#!/usr/bin/env bash
# NATS with JetStream, one server, and its command line for `nats bench`, both built by the Go toolchain, 1.21 or later, from the module proxy. See ../README.md.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../process.sh"

BIN=$PEERS_DIR/nats/bin
PORT=${GANNET_NATS_PORT:-24222}
MONITOR_PORT=$((PORT + 1))
SERVER_VERSION=${GANNET_NATS_SERVER:-v2.15.3}
# A newer one does not build by name alone.
CLI_VERSION=${GANNET_NATS_CLI:-v0.5.0}

settings() {
    # Room for records of 1 MiB with what goes around them; its default is 1 MiB in all.
    echo "max_payload: 8MB"
    if [ "$1" = fsync ]; then
        # An fsync of the stream's file before the answer; its default is one every two minutes.
        echo "jetstream.sync_interval: always"
    fi
}

install() {
    # The server names a newer Go, which one of 1.21 or later fetches by itself.
    local wanted="Go 1.21 or later is needed to build it, and Debian 12's golang-go is older: see https://go.dev/dl"
    need go "$wanted"
    [ "$(printf '%s\n' 1.21 "$(go env GOVERSION | sed 's/^go//')" | sort -V | head -n 1)" = 1.21 ] || die "$wanted"
    export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
    mkdir -p "$BIN"
    # In a directory of its own: what is built must not depend on a module around it.
    [ -x "$BIN/nats-server" ] ||
        (cd "$BIN" && GOBIN=$BIN GOFLAGS=-buildvcs=false go install "github.com/nats-io/nats-server/v2@$SERVER_VERSION") >&2
    [ -x "$BIN/nats" ] ||
        (cd "$BIN" && GOBIN=$BIN GOFLAGS=-buildvcs=false go install "github.com/nats-io/natscli/nats@$CLI_VERSION") >&2
}

installed() {
    [ -x "$BIN/nats-server" ] || die "it is not installed: $0 install"
}

start() {
    local dir=$1 mode=$2 sync=
    installed
    fresh_directory "$dir"
    port_free "$PORT" || die "port $PORT is taken: set GANNET_NATS_PORT"
    [ "$mode" = fsync ] && sync="sync_interval: always"
    cat >"$dir/nats.conf" <<END
listen: "127.0.0.1:$PORT"
http: "127.0.0.1:$MONITOR_PORT"
server_name: race
max_payload: 8MB
jetstream {
    store_dir: "$dir/data"
    $sync
}
END
    launch "$dir" nats "$BIN/nats-server" -c "$dir/nats.conf"
    ready "$dir" nats healthy
    echo "127.0.0.1:$PORT"
}

# Its own word that it serves, JetStream included.
healthy() {
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$MONITOR_PORT" || return 1
    printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
    read -r status <&3
    exec 3>&-
    [[ $status == *" 200 "* ]]
}

# tool DIR topic STREAM PARTITIONS
# tool DIR produce STREAM RECORDS RECORD_BYTES RATE BATCH_BYTES LINGER_MS INFLIGHT: RATE -1 is as fast as it goes; INFLIGHT counts messages.
# tool DIR consume STREAM RECORDS RECORD_BYTES
# tool DIR both ...: as produce, consumed meanwhile.
# A stream here is what nats bench takes: one, with the subjects STREAM.*. It publishes asynchronously, INFLIGHT messages and then all their acks.
tool() {
    local dir=$1 what=$2
    shift 2
    installed
    # A window that is synced message by message takes longer than its default of 5 s.
    local nats=("$BIN/nats" --server "nats://127.0.0.1:$PORT" --timeout 60s)
    case $what in
    topic)
        "${nats[@]}" stream add "$1" --subjects "$1.>" --defaults --storage file --replicas 1 --retention limits >&2
        ;;
    produce)
        local rate=()
        [ "$4" = -1 ] || rate=(--throughput "$4")
        "${nats[@]}" bench js pub async "$1.bench" --stream "$1" --msgs "$2" --size "$3" --batch "$7" "${rate[@]}" --no-progress
        ;;
    consume)
        "${nats[@]}" bench js ordered --stream "$1" --msgs "$2" --size "$3" --no-progress
        ;;
    both) both "$dir" "$@" ;;
    *) die "$what is nothing that its tools do: topic, produce, consume, both" ;;
    esac
}

version() {
    installed
    "$BIN/nats-server" --version | sed 's/^nats-server: v/NATS /'
}

stop() {
    end "$1" nats
}

run_subcommand "$@"
