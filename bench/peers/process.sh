# Sourced by the peers' scripts: where things are, and starting, asking and stopping a process of our own by its id. Nothing here looks for processes by name.

# Where peers are installed.
PEERS_DIR=${GANNET_PEERS_DIR:-$(cd "$HERE/../../.." && pwd)/target/peers}
# How long a broker may take until it answers, and until it has ended.
READY_SECONDS=120
STOP_SECONDS=60

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$(basename "$HERE"): $*"
    exit 1
}

need() {
    command -v "$1" >/dev/null || die "$1 is needed: $2"
}

# usage SUBCOMMANDS: what the script can do.
usage() {
    say "usage: $0 install | start DIR default|fsync | stop DIR | version | settings default|fsync | tool DIR ARGUMENTS..."
    exit 2
}

check_mode() {
    case $1 in default | fsync) ;; *) die "$1 is no mode: default or fsync" ;; esac
}

# fresh_directory DIR: makes it; refuses one that holds anything, so that nothing of somebody else's is written over.
fresh_directory() {
    mkdir -p "$1"
    [ -z "$(ls -A "$1")" ] || die "$1 is not empty: give a new directory"
}

# launch DIR NAME COMMAND...: starts it in the background with its output in DIR/NAME.log, and keeps its id in DIR/NAME.pid.
launch() {
    local dir=$1 name=$2
    shift 2
    "$@" >"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}

# runs DIR NAME: whether that process is alive. A zombie is not.
runs() {
    local pid state
    pid=$(cat "$1/$2.pid" 2>/dev/null) || return 1
    state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

# ready DIR NAME COMMAND...: waits until the command succeeds, as long as the process lives.
ready() {
    local dir=$1 name=$2 deadline=$((SECONDS + READY_SECONDS))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! runs "$dir" "$name"; then
            tail -n 20 "$dir/$name.log" >&2 || true
            die "$name ended before it was ready"
        fi
        if [ $SECONDS -ge $deadline ]; then
            tail -n 20 "$dir/$name.log" >&2 || true
            end "$dir" "$name"
            die "$name did not answer within $READY_SECONDS s"
        fi
        sleep 0.1
    done
}

# end DIR NAME: asks the process to end, waits, and kills it when it does not listen.
end() {
    local pid deadline=$((SECONDS + STOP_SECONDS))
    runs "$1" "$2" || {
        rm -f "$1/$2.pid"
        return 0
    }
    pid=$(cat "$1/$2.pid")
    kill "$pid" 2>/dev/null || true
    while runs "$1" "$2"; do
        if [ $SECONDS -ge $deadline ]; then
            say "$2 does not end: killing it"
            kill -9 "$pid" 2>/dev/null || true
            deadline=$((SECONDS + STOP_SECONDS))
        fi
        sleep 0.05
    done
    rm -f "$1/$2.pid"
}

# port_free PORT: nobody listens there.
port_free() {
    ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# both DIR TOPIC RECORDS RECORD_BYTES ...: a peer's tool on both sides at once, the consumer in the background.
both() {
    local dir=$1 consumer status=0
    shift
    (tool "$dir" consume "$1" "$2" "$3") &
    consumer=$!
    tool "$dir" produce "$@" || status=$?
    # A consumer of what was never sent would wait for it.
    [ $status = 0 ] || kill "$consumer" 2>/dev/null || true
    wait "$consumer" || status=$?
    return $status
}

# run_subcommand ARGUMENTS...: calls what the peer's script defines: install, start DIR MODE, stop DIR, version, settings MODE, tool DIR ARGUMENTS...
run_subcommand() {
    case ${1:-} in
    install) install ;;
    start)
        [ $# = 3 ] || usage
        check_mode "$3"
        start "$2" "$3"
        ;;
    stop)
        [ $# = 2 ] || usage
        stop "$2"
        ;;
    version) version ;;
    settings)
        [ $# = 2 ] || usage
        check_mode "$2"
        settings "$2"
        ;;
    tool)
        [ $# -ge 3 ] || usage
        tool "${@:2}"
        ;;
    *) usage ;;
    esac
}
