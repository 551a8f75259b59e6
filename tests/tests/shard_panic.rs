//! A shard that panics takes the whole broker with it, and nothing that was acknowledged.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gannet_engine::cli::ExitStatus;
use gannet_tests::load::{Load, LoadPlan};
use gannet_tests::{RawPeer, Server, connect, data_dir, serve};
use gannet_wire::ShardIndex;
use gannet_wire::frame::{Durability, Message};

const SHARDS: u16 = 2;
const PANICS: ShardIndex = ShardIndex(1);
const OTHER: ShardIndex = ShardIndex(0);
/// How long the process may take to end.
const END_MAX: Duration = Duration::from_secs(10);

#[test]
fn a_shard_that_panics_ends_the_broker_at_once_and_nothing_acknowledged_is_lost() {
    let dir = data_dir();
    let mut server = Server::run(panicking(dir.path()));
    server.expect_error("panicked");
    let address = server.address();
    let plan = LoadPlan {
        topic: "load".to_owned(),
        partitions: 4,
        producers: 2,
        consumers: 1,
        durability: Durability::Durable,
        seed: 1,
    };
    let load = Load::start(address, plan);
    load.until_acked(2_000);
    for shard in [PANICS, OTHER] {
        let described = connect(address).describe_topic("load").expect("it exists");
        let mut partitions = described.partitions.iter();
        assert!(
            partitions.any(|one| one.shard == shard && one.next_offset.0 > 0),
            "nothing is durable on shard {shard}: {described:?}"
        );
    }

    let mut other = served_by(OTHER, &server);
    served_by(PANICS, &server).reset();
    let deadline = Instant::now() + END_MAX;
    while other.ask(&Message::Ping(0)).is_some() {
        assert!(
            Instant::now() < deadline,
            "shard {OTHER} serves on without shard {PANICS}: {:#?}",
            server.log()
        );
    }
    let ended = server.ended();
    assert!(Instant::now() < deadline, "it ended late");
    assert_eq!(
        ended.code(),
        Some(ExitStatus::ShardPanicked.code().into()),
        "{ended}"
    );
    let sentences = server.log_with("shard gannet-shard-1 panicked; stopping");
    assert_eq!(sentences.len(), 1, "{:#?}", server.log());

    let history = load.history();
    let server = Server::start_at(dir.path(), SHARDS, address);
    let findings = history.findings(&load.stored(address));
    assert!(findings.is_clean(), "{findings}");
    load.until_acked(500);
    let (history, stored) = load.finish(address);
    let findings = history.findings(&stored);
    assert!(findings.is_clean(), "{findings}");
    assert!(server.stop().success());
}

/// As [`serve`], by the program with the bug.
fn panicking(data_dir: &Path) -> Command {
    let serve = serve(data_dir, SHARDS);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gannet-panicking"));
    command.args(serve.get_args());
    for (name, value) in serve.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

/// A connection that this shard serves.
fn served_by(shard: ShardIndex, server: &Server) -> RawPeer {
    let mut peer = RawPeer::connect(server.address());
    match peer.hello(1, 1, Some(shard)) {
        Some(Message::HelloReply(reply)) => assert_eq!(reply.shard, shard),
        other => panic!("Hello was answered by {other:?}"),
    }
    peer
}
