//! A peer that is gone without a word: everything that it held is freed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gannet_tests::{Cable, RawPeer, Server, connect, data_dir, publish_numbers, read_all, serve};
use gannet_wire::client::ProducerConfig;
use gannet_wire::frame::TopicSettings;
use gannet_wire::{PartitionIndex, TopicId};

const HEARTBEAT_SHORT: &str = "network.heartbeat_ms=300";
const WRITE_DEADLINE_SHORT: &str = "network.write_deadline_ms=1000";
/// Beyond any patience here.
const HEARTBEAT_LONG: &str = "network.heartbeat_ms=600s";
const WRITE_DEADLINE_LONG: &str = "network.write_deadline_ms=3600s";
/// Three heartbeats, or a write's deadline: within that a broker has freed what gone peers held.
const FREED_AFTER: Duration = Duration::from_millis(1_000);
/// What a busy machine may take longer, well below what ten times as many heartbeats would.
const STALL_MAX: Duration = Duration::from_secs(5);
/// The kernel knows of its own connections whether they are gone, and looks at growing intervals.
const KERNEL_MAX: Duration = Duration::from_secs(60);

/// A broker at the other end of a cable, with a topic for the peers that are going to be gone and one for the others.
struct Scene {
    cable: Cable,
    server: Server,
    topic: TopicId,
    /// Those that it had open before they came: its own, and perhaps some of who has just left.
    sockets: BTreeSet<String>,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// `None`, said with its reason, where there can be no cable.
    fn set(settings: [&str; 2]) -> Option<Self> {
        let cable = Cable::new()?;
        let dir = data_dir();
        let mut command = serve(dir.path(), 2);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.env("GANNET_LISTEN", format!("{}:0", Cable::BROKER));
        let server = Server::run(cable.at_broker(&command));
        let topic = cable.as_neighbour(|| {
            let client = connect(server.address());
            client
                .create_topic("aside", 1, &TopicSettings::default())
                .expect("new");
            let topic = client.create_topic("wide", 2, &TopicSettings::default());
            publish_numbers(&client, "aside", 0..100);
            topic.expect("new").topic
        });
        let sockets = server.open_sockets();
        Some(Self {
            cable,
            server,
            topic,
            sockets,
            _dir: dir,
        })
    }

    /// Eight peers do something each, by their number, and are gone without a word; the others go on.
    fn peers_are_gone(&self, does: impl Fn(&mut RawPeer, usize) + Sync) {
        let address = self.server.address();
        let gone: Vec<RawPeer> = self.cable.as_client(|| {
            let mut peers: Vec<RawPeer> = (0..8).map(|_| RawPeer::greeted(address)).collect();
            for (number, peer) in peers.iter_mut().enumerate() {
                does(peer, number);
            }
            peers
        });
        assert!(self.cable.kernel_connections() >= gone.len());
        self.cable.cut();
        drop(gone);
        self.cable.as_neighbour(|| {
            let client = connect(address);
            publish_wide(&client);
            publish_numbers(&client, "aside", 100..200);
        });
    }

    /// The broker frees what they held, the kernel perhaps later, and the others have lost nothing.
    fn assert_freed(&self, kernel_connections_max: usize) {
        let began = Instant::now();
        loop {
            let open = self.server.open_sockets();
            let open = open.difference(&self.sockets).count();
            let in_kernel = self.cable.kernel_connections();
            if open == 0 && in_kernel <= kernel_connections_max {
                break;
            }
            let waited = began.elapsed();
            assert!(
                waited < KERNEL_MAX && (open == 0 || waited < FREED_AFTER + STALL_MAX),
                "{open} sockets are open that were not before; the kernel keeps {in_kernel} connections"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = self.server.address();
        let kept = self
            .cable
            .as_neighbour(|| read_all(&connect(address), "aside"));
        assert_eq!(kept.len(), 200);
    }
}

#[test]
fn peers_that_are_gone_without_a_word_are_freed_and_the_others_do_not_notice() {
    let Some(scene) = Scene::set([HEARTBEAT_SHORT, WRITE_DEADLINE_SHORT]) else {
        return;
    };
    // Some wait for nothing, some have sent half a frame, and some have more coming than their sockets take.
    scene.peers_are_gone(|peer, number| match number % 3 {
        0 => {}
        1 => peer.send_bytes(&[0x10, 0x00]),
        _ => peer.subscribe_to_all(scene.topic, PartitionIndex(0)),
    });
    scene.assert_freed(0);
}

/// With both at work the kernel's deadline ends a connection whose ping is not acknowledged about as soon as the broker does.
#[test]
fn heartbeats_alone_free_whoever_is_gone() {
    let Some(scene) = Scene::set([HEARTBEAT_SHORT, WRITE_DEADLINE_LONG]) else {
        return;
    };
    scene.peers_are_gone(|peer, number| match number % 3 {
        0 => {}
        1 => peer.send_bytes(&[0x10, 0x00]),
        _ => peer.subscribe_to_all(scene.topic, PartitionIndex(0)),
    });
    scene.assert_freed(usize::MAX);
}

#[test]
fn the_write_deadline_alone_frees_whoever_is_gone_with_more_coming() {
    let Some(scene) = Scene::set([HEARTBEAT_LONG, WRITE_DEADLINE_SHORT]) else {
        return;
    };
    scene.peers_are_gone(|peer, _| peer.subscribe_to_all(scene.topic, PartitionIndex(0)));
    scene.assert_freed(0);
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
