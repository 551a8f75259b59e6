//! What clients that behave badly, or are gone, cost the others: their p99 beside the undisturbed one of the same broker, before and after. Reported, never judged: a
//! machine has its own moods.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gannet_loadgen::options::Rate;
use gannet_wire::client::ProducerConfig;
use gannet_wire::frame::{Message, TopicSettings, encode};
use gannet_wire::{CorrelationId, PartitionIndex, TopicId};

use super::StopsWhenDropped;
use super::measure::measure;
use crate::contents::connect;
use crate::network::Cable;
use crate::peer::RawPeer;
use crate::program::data_dir;
use crate::server::{Server, serve};

/// What the neighbours send: far from what a broker can take.
const RECORDS_PER_S: u64 = 2_000;
/// Clients that never read, or a byte a second.
const DEAF: usize = 16;
/// Clients that send a byte a second.
const SLOW: usize = 64;
/// Clients that are gone without a word.
const GONE: usize = 64;
/// Connections where a broker has 64 descriptors.
const CROWD: usize = 100;
/// What there is to read for those who do not.
const WIDE_BYTES: usize = 64 << 20;

/// A run over all kinds of bad neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours {
    /// How long each of the three measurements of a kind takes.
    pub duration: Duration,
}

/// One kind of bad neighbours.
#[derive(Clone, Debug)]
pub struct Disturbed {
    /// Which.
    pub who: &'static str,
    /// The publishers' p99 in microseconds before, with, and after them.
    pub publish_p99_us: [f64; 3],
    /// From sender to receiver.
    pub end_to_end_p99_us: [f64; 3],
}

/// What one kind of clients does until it is told to stop.
type Kind<'a> = dyn Fn(&AtomicBool) + Sync + 'a;

impl Disturbed {
    /// The p99 with them over the mean of those without.
    #[must_use]
    pub fn ratios(&self) -> (f64, f64) {
        let ratio = |[before, with, after]: [f64; 3]| 2.0 * with / (before + after).max(1.0);
        (ratio(self.publish_p99_us), ratio(self.end_to_end_p99_us))
    }
}

impl Neighbours {
    /// Makes the run; tells `progress` of every kind.
    ///
    /// # Panics
    /// When the broker does not serve its good clients, or loses something of theirs.
    pub fn run(&self, mut progress: impl FnMut(&Disturbed)) {
        // Those that are gone need a cable that can be cut; where there is none, its reason is said and the others come.
        let cable = Cable::new();
        let dir = data_dir();
        let mut command = serve(dir.path(), 1);
        if let Some(cable) = &cable {
            command.env("GANNET_LISTEN", format!("{}:0", Cable::BROKER));
            command = cable.at_broker(&command);
        }
        let server = Server::run(command);
        let address = server.address();
        let wide = near(&cable, || fill_wide(address));
        let kinds: [(&str, &Kind<'_>); 3] = [
            ("16 subscribers that never read", &|stop| {
                let peers: Vec<RawPeer> = (0..DEAF).map(|_| subscriber(address, wide)).collect();
                until(stop);
                drop(peers);
            }),
            ("16 subscribers that read a byte a second", &|stop| {
                let mut peers: Vec<RawPeer> =
                    (0..DEAF).map(|_| subscriber(address, wide)).collect();
                while !stop.load(Ordering::Relaxed) {
                    for peer in &mut peers {
                        peer.take_byte();
                    }
                    wait_a_second(stop);
                }
            }),
            ("64 publishers of a byte a second", &|stop| {
                send_slowly(address, stop);
            }),
        ];
        for (who, kind) in kinds {
            progress(&near(&cable, || self.disturb(address, who, kind)));
        }
        if let Some(cable) = &cable {
            progress(&self.with_gone(cable, address, wide));
        }
        drop(server);
        progress(&self.with_few_descriptors());
    }

    /// Measures before, while and after `kind` is at it.
    fn disturb(
        &self,
        address: SocketAddr,
        who: &'static str,
        kind: &(dyn Fn(&AtomicBool) + Sync),
    ) -> Disturbed {
        let stop = AtomicBool::new(false);
        let before = self.p99(address);
        let with = std::thread::scope(|scope| {
            scope.spawn(|| kind(&stop));
            let _stops = StopsWhenDropped(&stop);
            self.p99(address)
        });
        disturbed(who, [before, with, self.p99(address)])
    }

    fn with_gone(&self, cable: &Cable, address: SocketAddr, wide: TopicId) -> Disturbed {
        let before = cable.as_neighbour(|| self.p99(address));
        let gone: Vec<RawPeer> =
            cable.as_client(|| (0..GONE).map(|_| subscriber(address, wide)).collect());
        cable.cut();
        drop(gone);
        let with = cable.as_neighbour(|| self.p99(address));
        let after = cable.as_neighbour(|| self.p99(address));
        disturbed("64 subscribers gone without a word", [before, with, after])
    }

    fn with_few_descriptors(&self) -> Disturbed {
        let dir = data_dir();
        let mut command = Command::new("prlimit");
        command.args(["--nofile=64:64", "--"]);
        let plain = serve(dir.path(), 1);
        command
            .arg(plain.get_program())
            .args(plain.get_args())
            .env("GANNET_LISTEN", "127.0.0.1:0");
        let server = Server::run(command);
        let address = server.address();
        self.disturb(address, "100 connections to 64 descriptors", &|stop| {
            while !stop.load(Ordering::Relaxed) {
                let crowd: Vec<_> = (0..CROWD)
                    .filter_map(|_| TcpStream::connect(address).ok())
                    .collect();
                std::thread::sleep(Duration::from_secs(1));
                drop(crowd);
            }
        })
    }

    fn p99(&self, address: SocketAddr) -> (f64, f64) {
        let phases = measure(
            address,
            "neighbours",
            Rate::PerSecond(RECORDS_PER_S),
            &[self.duration],
        );
        let phase = phases.first().expect("one was asked for");
        (
            phase.publish.latency_us.p99,
            phase.end_to_end.latency_us.p99,
        )
    }
}

/// Where the cable does not concern anybody.
fn near<T: Send>(cable: &Option<Cable>, what: impl FnOnce() -> T + Send) -> T {
    match cable {
        Some(cable) => cable.as_neighbour(what),
        None => what(),
    }
}

fn disturbed(who: &'static str, measured: [(f64, f64); 3]) -> Disturbed {
    Disturbed {
        who,
        publish_p99_us: measured.map(|(publish, _)| publish),
        end_to_end_p99_us: measured.map(|(_, end_to_end)| end_to_end),
    }
}

fn fill_wide(address: SocketAddr) -> TopicId {
    const RECORD_BYTES: usize = 10_000;
    let client = connect(address);
    let topic = client
        .create_topic("wide", 1, &TopicSettings::default())
        .expect("new")
        .topic;
    let producer = client
        .producer("wide", ProducerConfig::default())
        .expect("it exists");
    for _ in 0..WIDE_BYTES / RECORD_BYTES {
        producer
            .send(None, None, Some(&[7; RECORD_BYTES]), &[], None)
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
    topic
}

/// Asks for everything and takes nothing.
fn subscriber(address: SocketAddr, topic: TopicId) -> RawPeer {
    let mut peer = RawPeer::greeted(address);
    peer.subscribe_to_all(topic, PartitionIndex(0));
    peer
}

fn send_slowly(address: SocketAddr, stop: &AtomicBool) {
    let mut peers: Vec<RawPeer> = (0..SLOW).map(|_| RawPeer::greeted(address)).collect();
    let mut frame = BytesMut::new();
    let question = Message::TopicDescribe("a topic with a name of some length".to_owned());
    encode(CorrelationId(1), &question, &mut frame);
    for byte in frame.iter().cycle() {
        for peer in &mut peers {
            peer.send_bytes(&[*byte]);
        }
        wait_a_second(stop);
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn wait_a_second(stop: &AtomicBool) {
    for _ in 0..20 {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn until(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
}
