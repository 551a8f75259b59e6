//! A client that commits a group's offsets and makes and deletes topics, and keeps books of it: what was acknowledged must be so in the
//! next life of the broker, and of what was asked for and not answered all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread::JoinHandle;

use gannet_engine::io::sim::Random;
use gannet_wire::client::ClientError;
use gannet_wire::client::blocking::Client;
use gannet_wire::frame::{TopicDescription, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, TopicId};

use crate::contents::connect;

const GROUP: &str = "clerk";
/// The topic that it commits offsets of.
const READ: &str = "clerk-reads";
/// Topics that come and go have names that begin like this. They are few, so that each is used again.
const COMES_AND_GOES: &str = "clerk-makes-";
const NAMES: u64 = 3;
/// Of each topic; every shard has some.
const PARTITIONS: u32 = 4;

/// A clerk who does nothing.
pub(super) struct Clerk {
    address: SocketAddr,
    offsets: OffsetBook,
    topics: TopicBook,
}

/// One who works until the broker ends: on offsets and on topics at the same time, so that there is hardly a moment without something of both under way.
pub(super) struct ClerkAtWork {
    address: SocketAddr,
    offsets: JoinHandle<OffsetBook>,
    topics: JoinHandle<TopicBook>,
}

/// What was acknowledged to a clerk.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClerkTotals {
    /// Offsets committed.
    pub offsets: u64,
    /// Topics created.
    pub created: u64,
    /// Topics deleted.
    pub deleted: u64,
}

struct OffsetBook {
    read: TopicDescription,
    partitions: BTreeMap<PartitionIndex, Committed>,
    acked: u64,
}

/// The offset of one partition. It only grows.
#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    /// The newest that was acknowledged, or found after a start.
    acked: u64,
    /// The newest that was sent.
    sent: u64,
}

struct TopicBook {
    random: Random,
    /// Those that are there.
    topics: BTreeMap<String, TopicId>,
    /// The topic of this name was to be made, or deleted, and nobody answered.
    in_doubt: Option<String>,
    /// Every id that ever was given.
    ids: BTreeSet<TopicId>,
    created: u64,
    deleted: u64,
}

impl Clerk {
    /// Takes up its office, on a broker that serves there whenever it serves. The seed decides which topics come and go.
    pub(super) fn new(address: SocketAddr, seed: u64) -> Self {
        let read = connect(address)
            .create_topic(READ, PARTITIONS, &TopicSettings::default())
            .expect("the topic is new");
        let partitions = read.partitions.iter().map(|one| one.partition);
        Self {
            address,
            topics: TopicBook {
                random: Random::new(seed),
                topics: BTreeMap::new(),
                in_doubt: None,
                ids: BTreeSet::from([read.topic]),
                created: 0,
                deleted: 0,
            },
            offsets: OffsetBook {
                partitions: partitions
                    .map(|partition| (partition, Committed::default()))
                    .collect(),
                read,
                acked: 0,
            },
        }
    }

    /// Begins to work, with a broker that serves.
    pub(super) fn work(self) -> ClerkAtWork {
        ClerkAtWork {
            address: self.address,
            offsets: until_the_end(self.address, self.offsets, OffsetBook::work),
            topics: until_the_end(self.address, self.topics, TopicBook::work),
        }
    }

    /// Judges a broker that serves again.
    ///
    /// # Panics
    /// When it has not what was acknowledged, or something that was never asked for.
    pub(super) fn judge(&mut self, what: &str) {
        let client = connect(self.address);
        self.offsets.judge(&client, what);
        self.topics.judge(&client, what);
    }

    /// What was acknowledged so far.
    pub(super) fn totals(&self) -> ClerkTotals {
        ClerkTotals {
            offsets: self.offsets.acked,
            created: self.topics.created,
            deleted: self.topics.deleted,
        }
    }
}

impl ClerkAtWork {
    /// Waits until it notices that the broker has ended.
    ///
    /// # Panics
    /// When it was told something that has nothing to do with the end.
    pub(super) fn ended(self) -> Clerk {
        Clerk {
            address: self.address,
            offsets: joined(self.offsets),
            topics: joined(self.topics),
        }
    }
}

/// Works on a book, by a connection of its own, until the broker ends.
fn until_the_end<B: Send + 'static>(
    address: SocketAddr,
    mut book: B,
    work: fn(&mut B, &Client) -> Result<(), ClientError>,
) -> JoinHandle<B> {
    let client = connect(address);
    std::thread::spawn(move || {
        loop {
            if let Err(error) = work(&mut book, &client) {
                assert!(is_of_the_end(&error), "the clerk was told: {error}");
                return book;
            }
        }
    })
}

/// Whether it says that the broker ends or has ended, so that nobody knows what came of the request.
fn is_of_the_end(error: &ClientError) -> bool {
    match error {
        ClientError::ConnectionLost(_) | ClientError::Io { .. } => true,
        ClientError::Server(refused) => {
            [ErrorCode::StorageFailed, ErrorCode::ServerStopping].contains(&refused.code)
        }
        _ => false,
    }
}

fn joined<B>(thread: JoinHandle<B>) -> B {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl OffsetBook {
    /// Commits a newer offset of each partition.
    fn work(&mut self, client: &Client) -> Result<(), ClientError> {
        for (partition, committed) in &mut self.partitions {
            committed.sent += 1;
            client.commit_offsets(GROUP, &self.read, &[(*partition, Offset(committed.sent))])?;
            committed.acked = committed.sent;
            self.acked += 1;
        }
        Ok(())
    }

    fn judge(&mut self, client: &Client, what: &str) {
        let partitions: Vec<PartitionIndex> = self.partitions.keys().copied().collect();
        let found = client
            .fetch_offsets(GROUP, &self.read, &partitions)
            .unwrap_or_else(|error| panic!("{what}: the group's offsets: {error}"));
        for (committed, found) in self.partitions.values_mut().zip(found) {
            let offset = found.offset.map_or(0, |offset| offset.0);
            assert!(
                (committed.acked..=committed.sent).contains(&offset),
                "{what}: partition {}: {committed:?}, and the group's offset is {offset}",
                found.partition
            );
            // What was told after a start no later one may take back.
            *committed = Committed {
                acked: offset,
                sent: offset,
            };
        }
    }
}

impl TopicBook {
    /// Makes a topic that is not there, or deletes one that is: often the newest, whose id must not be given again.
    fn work(&mut self, client: &Client) -> Result<(), ClientError> {
        let name = format!("{COMES_AND_GOES}{}", self.random.below(NAMES));
        self.in_doubt = Some(name.clone());
        if self.topics.contains_key(&name) {
            client.delete_topic(&name)?;
            self.topics.remove(&name);
            self.deleted += 1;
        } else {
            let made = client.create_topic(&name, PARTITIONS, &TopicSettings::default())?;
            self.enter(name, made.topic);
            self.created += 1;
        }
        self.in_doubt = None;
        Ok(())
    }

    /// A topic that is new.
    fn enter(&mut self, name: String, id: TopicId) {
        assert!(
            self.ids.insert(id),
            "{name} has an id that was given before: {id}"
        );
        self.topics.insert(name, id);
    }

    fn judge(&mut self, client: &Client, what: &str) {
        let listed = client
            .list_topics()
            .unwrap_or_else(|error| panic!("{what}: the list of topics: {error}"));
        let mut found: BTreeMap<String, TopicId> = listed
            .into_iter()
            .filter(|topic| topic.name.starts_with(COMES_AND_GOES))
            .map(|topic| (topic.name, topic.topic))
            .collect();
        if let Some(name) = self.in_doubt.take() {
            let was = self.topics.remove(&name);
            match (was, found.remove(&name)) {
                (Some(was), Some(is)) => {
                    assert_eq!(
                        was, is,
                        "{what}: {name} was to be deleted, and is another one"
                    );
                    self.topics.insert(name.clone(), is);
                    found.insert(name, is);
                }
                (None, Some(is)) => {
                    self.enter(name.clone(), is);
                    found.insert(name, is);
                }
                (_, None) => {}
            }
        }
        assert_eq!(
            found, self.topics,
            "{what}: the topics found, and those made and not deleted"
        );
        for (name, id) in found {
            let described = client
                .describe_topic(&name)
                .unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
            assert_eq!(described.topic, id, "{what}: {name}");
            assert_eq!(
                described.partitions.len(),
                PARTITIONS as usize,
                "{what}: {name}"
            );
        }
    }
}
