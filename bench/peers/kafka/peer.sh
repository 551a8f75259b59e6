#!/usr/bin/env bash
# Kafka in KRaft mode, one node that is broker and controller, from its libraries in Maven's central repository. See ../README.md.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/../process.sh"

LIBS=$PEERS_DIR/kafka/libs
PORT=${GANNET_KAFKA_PORT:-29092}
CONTROLLER_PORT=$((PORT + 1))
# What bin/kafka-run-class.sh and bin/kafka-server-start.sh of the distribution give the server.
SERVER_JVM=(-Xms1G -Xmx1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true)
# What it gives the performance tools.
TOOL_JVM=(-Xmx512M -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true)
# For short commands.
SHORT_JVM=(-Xmx256M -XX:+UseSerialGC -XX:TieredStopAtLevel=1)

settings() {
    cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$CONTROLLER_PORT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
END
    # An fsync of the log before the answer, for each produce request.
    if [ "$1" = fsync ]; then
        echo log.flush.interval.messages=1
    fi
}

admin() {
    java "${SHORT_JVM[@]}" -Dlog4j2.configurationFile="$HERE/log4j2.xml" -cp "$LIBS/*" "$@"
}

install() {
    need java "a Java runtime of version 17 or later (Debian: openjdk-17-jre-headless)"
    if [ -f "$LIBS/.complete" ] && cmp -s "$HERE/pom.xml" "$LIBS/.complete"; then
        return
    fi
    need mvn "Maven (Debian: maven)"
    rm -rf "$LIBS"
    mkdir -p "$LIBS"
    # In the directory of the libraries: Maven leaves nothing beside the sources.
    cp "$HERE/pom.xml" "$PEERS_DIR/kafka/pom.xml"
    (cd "$PEERS_DIR/kafka" && mvn -B -q dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$LIBS") >&2
    cp "$HERE/pom.xml" "$LIBS/.complete"
}

installed() {
    need java "a Java runtime of version 17 or later (Debian: openjdk-17-jre-headless)"
    [ -f "$LIBS/.complete" ] || die "it is not installed: $0 install"
}

start() {
    local dir=$1 mode=$2
    installed
    fresh_directory "$dir"
    port_free "$PORT" || die "port $PORT is taken: set GANNET_KAFKA_PORT"
    {
        settings "$mode"
        echo "listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$CONTROLLER_PORT"
        echo "advertised.listeners=PLAINTEXT://127.0.0.1:$PORT"
        echo "log.dirs=$dir/data"
    } >"$dir/server.properties"
    # Any cluster id does.
    admin kafka.tools.StorageTool format --cluster-id R2FubmV0UmFjZVBlZXIwMQ --config "$dir/server.properties" >"$dir/format.log" 2>&1 ||
        { tail -n 5 "$dir/format.log" >&2; die "its storage could not be formatted"; }
    launch "$dir" kafka java "${SERVER_JVM[@]}" -Dlog4j2.configurationFile="$HERE/log4j2.xml" -cp "$LIBS/*" kafka.Kafka "$dir/server.properties"
    # The port takes connections before the broker takes topics: ask for one.
    ready "$dir" kafka listens
    ready "$dir" kafka makes_a_topic
    echo "127.0.0.1:$PORT"
}

listens() {
    ! port_free "$PORT"
}

makes_a_topic() {
    admin org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$PORT" --create --if-not-exists --topic ready --partitions 1 --replication-factor 1
}

# tool DIR topic TOPIC PARTITIONS
# tool DIR produce TOPIC RECORDS RECORD_BYTES RATE BATCH_BYTES LINGER_MS INFLIGHT: RATE -1 is as fast as it goes; INFLIGHT counts requests.
# tool DIR consume TOPIC RECORDS RECORD_BYTES
# tool DIR both ...: as produce, consumed meanwhile.
tool() {
    local dir=$1 what=$2
    shift 2
    installed
    case $what in
    topic)
        admin org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$PORT" --create --topic "$1" --partitions "$2" --replication-factor 1
        ;;
    produce)
        java "${TOOL_JVM[@]}" -Dlog4j2.configurationFile="$HERE/log4j2.xml" -cp "$LIBS/*" org.apache.kafka.tools.ProducerPerformance \
            --topic "$1" --num-records "$2" --record-size "$3" --throughput "$4" \
            --producer-props "bootstrap.servers=127.0.0.1:$PORT" acks=all "batch.size=$5" "linger.ms=$6" "max.in.flight.requests.per.connection=$7" \
            buffer.memory=67108864
        ;;
    consume)
        java "${TOOL_JVM[@]}" -Dlog4j2.configurationFile="$HERE/log4j2.xml" -cp "$LIBS/*" org.apache.kafka.tools.ConsumerPerformance \
            --bootstrap-server "127.0.0.1:$PORT" --topic "$1" --messages "$2" --timeout 60000
        ;;
    both) both "$dir" "$@" ;;
    *) die "$what is nothing that its tools do: topic, produce, consume, both" ;;
    esac
}

version() {
    installed
    local java
    java=$(java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/, Java \1/p') || true
    ls "$LIBS" | sed -n "s/^kafka-clients-\(.*\)\.jar\$/Kafka \1$java/p"
}

stop() {
    end "$1" kafka
}

run_subcommand "$@"
