//! What a new topic gets when its maker does not say.

use gannet_tests::{Server, client, connect, data_dir};
use gannet_wire::frame::{
    Durability, PARTITIONS_DEFAULT, Retention, TopicDescription, TopicOptions, TopicSettings,
};

/// A server whose every default differs from the program's.
fn server(dir: &std::path::Path) -> Server {
    Server::start_with(
        dir,
        2,
        &[
            "topics.partitions_default=3",
            "topics.retention_ms=3600000",
            "topics.retention_bytes=10485760",
            "topics.durability=accepted",
        ],
    )
}

fn assert_has_defaults(topic: &TopicDescription) {
    assert_eq!(topic.partitions.len(), 3);
    let expected = TopicSettings {
        durability: Durability::Accepted,
        retention_ms: Some(3_600_000),
        retention_bytes: Some(10 << 20),
        ..TopicSettings::default()
    };
    assert_eq!(topic.settings, expected);
}

#[test]
fn a_topic_made_without_a_word_is_as_the_broker_is_configured() {
    let dir = data_dir();
    let server = server(dir.path());
    let client = connect(server.address());
    let topic = client
        .create_topic("plain", PARTITIONS_DEFAULT, TopicOptions::default())
        .expect("the name is free");
    assert_has_defaults(&topic);
    assert!(server.stop().success());
    // What it came to is the topic's own: another configuration does not change it.
    let server = Server::start(dir.path(), 2);
    let described = connect(server.address()).describe_topic("plain");
    assert_has_defaults(&described.expect("it is still there"));
}

#[test]
fn what_the_maker_says_goes_before_the_brokers_defaults() {
    let dir = data_dir();
    let server = server(dir.path());
    let topic = connect(server.address())
        .create_topic(
            "own",
            1,
            TopicOptions {
                durability: Some(Durability::Durable),
                retention_ms: Some(Retention::Unlimited),
                ..TopicOptions::default()
            },
        )
        .expect("the name is free");
    assert_eq!(topic.partitions.len(), 1);
    let expected = TopicSettings {
        retention_bytes: Some(10 << 20),
        ..TopicSettings::default()
    };
    assert_eq!(topic.settings, expected);
}

#[test]
fn the_command_prints_what_the_defaults_came_to() {
    let dir = data_dir();
    let server = server(dir.path());
    let printed = |arguments: &[&str]| {
        let output = client(server.address(), arguments, b"");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let plain = printed(&["topic", "create", "plain"]);
    assert!(plain.contains("durability  accepted"), "{plain}");
    assert!(
        plain.contains("retention   1 hour, 10.0 MiB a partition"),
        "{plain}"
    );
    let own = printed(&[
        "topic",
        "create",
        "own",
        "--retention",
        "none",
        "--partitions",
        "1",
    ]);
    assert!(own.contains("retention   for ever"), "{own}");
}
