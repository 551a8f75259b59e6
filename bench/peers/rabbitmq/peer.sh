#!/usr/bin/env bash
# RabbitMQ from Debian's package, as a process of our own beside any that the system runs, and its PerfTest from Maven's central repository. See ../README.md.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../process.sh"

LIBS=$PEERS_DIR/rabbitmq/libs
# Not the wrapper in /usr/sbin, which becomes the user of the system's own broker.
SERVER=/usr/lib/rabbitmq/bin/rabbitmq-server
CTL=/usr/lib/rabbitmq/bin/rabbitmqctl
PORT=${GANNET_RABBITMQ_PORT:-25670}
DIST_PORT=$((PORT + 1))
EPMD_PORT=$((PORT + 2))
NODE=gannet-race@localhost
POLICY=/usr/sbin/policy-rc.d

settings() {
    echo "max_message_size = 16777216"
    if [ "$1" = fsync ]; then
        # Quorum queues sync their log before they confirm.
        echo "default queue type = quorum"
    else
        echo "default queue type = classic (durable, persistent messages)"
    fi
}

install() {
    need java "a Java runtime (Debian: openjdk-17-jre-headless)"
    install_server
    if [ -f "$LIBS/.complete" ] && cmp -s "$HERE/pom.xml" "$LIBS/.complete"; then
        return
    fi
    need mvn "Maven (Debian: maven)"
    rm -rf "$LIBS"
    mkdir -p "$LIBS"
    cp "$HERE/pom.xml" "$PEERS_DIR/rabbitmq/pom.xml"
    (cd "$PEERS_DIR/rabbitmq" && mvn -B -q dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$LIBS") >&2
    cp "$HERE/pom.xml" "$LIBS/.complete"
}

# The package starts a service, which a policy of our own forbids for as long as the installation takes.
install_server() {
    [ -x "$SERVER" ] && return
    need apt-get "Debian's package rabbitmq-server"
    [ "$(id -u)" = 0 ] || die "rabbitmq-server is not installed, and only root can: apt-get install rabbitmq-server"
    local ours=no
    if [ ! -e "$POLICY" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod +x "$POLICY"
    fi
    local status=0 alone=no
    port_free 4369 && alone=yes
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server; } >&2 || status=$?
    [ $ours = no ] || rm -f "$POLICY"
    # The package's set-up leaves a daemon behind. It ends unless nodes have come to use it.
    [ $alone = no ] || epmd -kill >/dev/null 2>&1 || true
    [ $status = 0 ] || die "apt-get could not install rabbitmq-server"
}

installed() {
    [ -x "$SERVER" ] || die "it is not installed: $0 install"
}

# Everything that the node and its commands find their way by, in DIR.
environment() {
    export HOME=$1
    export RABBITMQ_NODENAME=$NODE
    export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
    export RABBITMQ_NODE_PORT=$PORT
    export RABBITMQ_DIST_PORT=$DIST_PORT
    export RABBITMQ_MNESIA_BASE=$1/data
    export RABBITMQ_LOG_BASE=$1/log
    export RABBITMQ_CONFIG_FILE=$1/rabbitmq.conf
    export RABBITMQ_CONF_ENV_FILE=/dev/null
    export RABBITMQ_ENABLED_PLUGINS_FILE=$1/enabled_plugins
    export RABBITMQ_GENERATED_CONFIG_DIR=$1/config
    export RABBITMQ_FEATURE_FLAGS_FILE=$1/feature_flags
    # Nothing of it listens beyond the loopback.
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
    export ERL_EPMD_ADDRESS=127.0.0.1
    export ERL_EPMD_PORT=$EPMD_PORT
    export LANG=C.UTF-8
}

start() {
    local dir=$1 mode=$2
    installed
    fresh_directory "$dir"
    port_free "$PORT" || die "port $PORT is taken: set GANNET_RABBITMQ_PORT"
    environment "$dir"
    mkdir -p "$dir/data" "$dir/log" "$dir/config"
    cat >"$dir/rabbitmq.conf" <<END
max_message_size = 16777216
loopback_users.guest = true
END
    echo "[]." >"$dir/enabled_plugins"
    # The names of the nodes: started here, so that it can be stopped by its id. Otherwise the node would start one that outlives it.
    launch "$dir" epmd epmd -port "$EPMD_PORT" -address 127.0.0.1
    ready "$dir" epmd epmd -port "$EPMD_PORT" -names
    launch "$dir" rabbitmq "$SERVER"
    ready "$dir" rabbitmq listens
    ready "$dir" rabbitmq "$CTL" --node "$NODE" await_startup
    # What was launched is a shell around the node. The node is what is measured and ended; the shell ends with it.
    cp "$dir/data/$NODE.pid" "$dir/rabbitmq.pid"
    if [ "$mode" = fsync ]; then
        {
            "$CTL" --node "$NODE" delete_vhost /
            "$CTL" --node "$NODE" add_vhost / --default-queue-type quorum
            "$CTL" --node "$NODE" set_permissions --vhost / guest '.*' '.*' '.*'
        } >"$dir/vhost.log" 2>&1 || {
            tail -n 5 "$dir/vhost.log" >&2
            stop "$dir"
            die "the default queue type could not be set"
        }
    fi
    echo "127.0.0.1:$PORT"
}

listens() {
    ! port_free "$PORT"
}

stop() {
    end "$1" rabbitmq
    end "$1" epmd
}

# tool DIR topic QUEUE PARTITIONS: nothing to do, PerfTest declares.
# tool DIR produce QUEUE RECORDS RECORD_BYTES RATE BATCH_BYTES LINGER_MS INFLIGHT: RATE -1 is as fast as it goes; INFLIGHT counts messages.
# tool DIR consume QUEUE RECORDS RECORD_BYTES
# tool DIR both ...: as produce, consumed meanwhile.
# Publisher confirms with INFLIGHT outstanding; a queue of the vhost's default type.
tool() {
    local dir=$1 what=$2
    shift 2
    local perf_test=(java -cp "$LIBS/*" com.rabbitmq.perf.PerfTest --uri "amqp://guest:guest@127.0.0.1:$PORT"
        --queue "$1" --auto-delete false --flag persistent --queue-args "")
    case $what in
    topic) ;;
    produce | both)
        local rate=() consumed=(--consumers 0)
        [ "$4" = -1 ] || rate=(--rate "$4")
        [ $what = produce ] || consumed=(--consumers 1 --cmessages "$2" --qos 1000 --multi-ack-every 100)
        "${perf_test[@]}" --producers 1 --pmessages "$2" --size "$3" --confirm "$7" "${rate[@]}" "${consumed[@]}"
        ;;
    consume)
        "${perf_test[@]}" --producers 0 --consumers 1 --cmessages "$2" --qos 1000 --multi-ack-every 100
        ;;
    *) die "$what is nothing that its tool does: topic, produce, consume, both" ;;
    esac
}

version() {
    installed
    local erlang
    erlang=$(cat /usr/lib/erlang/releases/*/OTP_VERSION 2>/dev/null | sed -n '1s/^/, Erlang /p') || true
    ls /usr/lib/rabbitmq/lib | sed -n "s/^rabbitmq_server-\(.*\)/RabbitMQ \1$erlang/p"
}

run_subcommand "$@"
