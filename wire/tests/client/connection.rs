//! The connection's own life, and requests.

use std::time::Duration;

use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ClientError, ProducerConfig};
use gannet_wire::frame::{Start, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

use crate::broker::{Broker, Options, quick};

#[test]
fn requests_are_answered() {
    let broker = Broker::start(Options::default());
    let client = Client::connect(broker.address, quick()).unwrap();
    assert_eq!(client.hello().server_name, "fake");
    for name in ["c", "a", "b", "e", "d"] {
        let topic = client
            .create_topic(name, 2, &TopicSettings::default())
            .unwrap();
        assert_eq!((topic.name.as_str(), topic.partitions.len()), (name, 2));
    }
    let names: Vec<String> = client
        .list_topics()
        .unwrap()
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"], "all pages");
    let topic = client.describe_topic("a").unwrap();
    client
        .commit_offsets("g", &topic, &[(PartitionIndex(1), Offset(7))])
        .unwrap();
    let partitions = [PartitionIndex(0), PartitionIndex(1)];
    let fetched = client.fetch_offsets("g", &topic, &partitions).unwrap();
    let offsets: Vec<Option<Offset>> = fetched.iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [None, Some(Offset(7))]);
    let found = client
        .lookup_offset(topic.topic, PartitionIndex(0), Start::Latest)
        .unwrap();
    assert_eq!(found.offset, Offset(0));
    client.delete_topic("a").unwrap();
    assert!(client.ping().unwrap() > Duration::ZERO);
}

#[test]
fn a_servers_refusal_is_a_typed_error() {
    let broker = Broker::start(Options::default());
    let client = Client::connect(broker.address, quick()).unwrap();
    let error = client.describe_topic("nowhere").unwrap_err();
    let ClientError::Server(body) = error else {
        panic!("{error:?}")
    };
    assert_eq!(body.code, ErrorCode::TopicUnknown);
}

#[test]
fn a_name_that_fits_no_frame_is_refused_before_it_is_sent() {
    let broker = Broker::start(Options::default());
    let client = Client::connect(broker.address, quick()).unwrap();
    let error = client.describe_topic(&"n".repeat(250)).unwrap_err();
    assert!(
        matches!(error, ClientError::InvalidArgument(_)),
        "{error:?}"
    );
}

#[test]
fn a_repeatable_request_survives_a_connection_that_died_unnoticed() {
    let broker = Broker::start(Options::default());
    broker.create("t", 1);
    let client = Client::connect(broker.address, quick()).unwrap();
    broker.hang_up();
    assert_eq!(client.describe_topic("t").unwrap().partitions.len(), 1);
}

#[test]
fn a_request_that_is_not_repeatable_tells_that_the_connection_was_lost() {
    let broker = Broker::start(Options::default());
    let client = Client::connect(broker.address, quick()).unwrap();
    broker.hang_up();
    let error = client
        .create_topic("t", 1, &TopicSettings::default())
        .unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost(_)), "{error:?}");
}

#[test]
fn an_idle_producer_keeps_its_connection_alive() {
    let broker = Broker::start(Options {
        heartbeat_ms: 10,
        ..Options::default()
    });
    broker.create("t", 1);
    let client = Client::connect(broker.address, quick()).unwrap();
    let producer = client.producer("t", ProducerConfig::default()).unwrap();
    broker.wait_for(|state| state.pings >= 5);
    assert_eq!(
        broker.state().hellos.len(),
        2,
        "one for requests, one to publish, none anew"
    );
    drop(producer);
}

#[test]
fn a_silent_server_is_given_up_and_another_connection_made() {
    let broker = Broker::start(Options {
        heartbeat_ms: 20,
        ..Options::default()
    });
    broker.create("t", 1);
    let client = Client::connect(broker.address, quick()).unwrap();
    let producer = client.producer("t", ProducerConfig::default()).unwrap();
    broker.state().is_mute = true;
    producer.send(None, None, Some(b"v"), &[], None).unwrap();
    // The new connection's Hello is read once the server speaks again.
    broker.wait_for(|state| state.accepted >= 3);
    broker.state().is_mute = false;
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), ["v"]);
}

#[test]
fn nobody_listening_is_an_error_within_the_timeout() {
    let address = Broker::start(Options::default()).address;
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(200),
        ..quick()
    };
    assert!(Client::connect(address, config).is_err());
}
