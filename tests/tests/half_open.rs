//! A peer that is gone without a word: everything that it held is freed.

use std::time::{Duration, Instant};

use gannet_tests::{Cable, RawPeer, Server, connect, data_dir, publish_numbers, read_all, serve};
use gannet_wire::PartitionIndex;
use gannet_wire::client::ProducerConfig;
use gannet_wire::frame::TopicSettings;

#[test]
fn peers_that_are_gone_without_a_word_are_freed_and_the_others_do_not_notice() {
    let Some(cable) = Cable::new() else { return };
    let dir = data_dir();
    let mut command = serve(dir.path(), 2);
    command
        .args(["--set", "network.heartbeat_ms=300"])
        .args(["--set", "network.write_deadline_ms=1000"])
        .env("GANNET_LISTEN", format!("{}:0", Cable::BROKER));
    let server = Server::run(cable.at_broker(&command));
    let address = server.address();
    let topic = cable.as_neighbour(|| {
        let client = connect(address);
        client
            .create_topic("aside", 1, &TopicSettings::default())
            .expect("new");
        let topic = client.create_topic("wide", 2, &TopicSettings::default());
        publish_numbers(&client, "aside", 0..100);
        topic.expect("new").topic
    });
    let sockets = server.open_sockets();

    let gone: Vec<RawPeer> = cable.as_client(|| {
        let mut peers: Vec<RawPeer> = (0..8).map(|_| RawPeer::greeted(address)).collect();
        // Some wait for nothing, some have sent half a frame, and some have more coming than their sockets take.
        for (number, peer) in peers.iter_mut().enumerate() {
            match number % 3 {
                0 => {}
                1 => peer.send_bytes(&[0x10, 0x00]),
                _ => {
                    peer.subscribe_to_all(topic, PartitionIndex(0));
                }
            }
        }
        peers
    });
    assert!(cable.kernel_connections() >= gone.len());
    cable.cut();
    drop(gone);
    cable.as_neighbour(|| {
        let client = connect(address);
        publish_wide(&client);
        publish_numbers(&client, "aside", 100..200);
    });

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let open = server.open_sockets();
        let in_kernel = cable.kernel_connections();
        if open <= sockets && in_kernel == 0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{open} sockets are open, {sockets} were before; the kernel keeps {in_kernel} connections"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let kept = cable.as_neighbour(|| read_all(&connect(address), "aside"));
    assert_eq!(kept.len(), 200);
}

/// More than a socket takes.
fn publish_wide(client: &gannet_wire::client::blocking::Client) {
    let producer = client
        .producer("wide", ProducerConfig::default())
        .expect("it exists");
    for _ in 0..2_000 {
        producer
            .send(Some(PartitionIndex(0)), None, Some(&[0; 10_000]), &[], None)
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
}
