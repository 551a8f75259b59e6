//! What a broker sends is checked again: a batch that lies inside right checksums ends its connection with a typed error, and no record of it reaches the program.

use std::time::Duration;

use bytes::Bytes;
use gannet_wire::batch::{BatchError, Compression, Records};
use gannet_wire::client::{
    ClientError, ConsumerConfig, Delivery, Partitions, ProducerConfig, blocking,
};
use gannet_wire::frame::Start;
use gannet_wire::{Offset, PartitionIndex};

use crate::batch_by_hand::*;
use crate::broker::{Broker, Options, quick};
use crate::full_batch::full_batch;

const SOON: Duration = Duration::from_secs(10);
/// The first topic of a broker.
const TOPIC: u64 = 1;
/// What the topic holds, in batches of one record.
const STORED: u64 = 3;

/// A flavour of the client.
trait Flavour {
    /// What a program is given next.
    fn next(&mut self) -> Result<Delivery, ClientError>;
}

struct Blocking(blocking::Consumer);

impl Flavour for Blocking {
    fn next(&mut self) -> Result<Delivery, ClientError> {
        let next = self.0.next(SOON);
        next.map(|delivery| delivery.expect("something comes"))
    }
}

fn blocking(broker: &Broker) -> Box<dyn Flavour> {
    let client = blocking::Client::connect(broker.address, quick()).unwrap();
    let (all, config) = (Partitions::All, ConsumerConfig::default());
    let consumer = client.consumer("t", all, Start::Earliest, config);
    Box::new(Blocking(consumer.unwrap()))
}

#[cfg(feature = "tokio")]
struct Tokio {
    runtime: ::tokio::runtime::Runtime,
    consumer: gannet_wire::client::tokio::Consumer,
}

#[cfg(feature = "tokio")]
impl Flavour for Tokio {
    fn next(&mut self) -> Result<Delivery, ClientError> {
        let Self { runtime, consumer } = self;
        let next = runtime.block_on(async { ::tokio::time::timeout(SOON, consumer.next()).await });
        next.expect("something comes")
    }
}

#[cfg(feature = "tokio")]
fn tokio(broker: &Broker) -> Box<dyn Flavour> {
    let runtime = ::tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let consumer = runtime.block_on(async {
        let client = gannet_wire::client::tokio::Client::connect(broker.address, quick());
        let (all, config) = (Partitions::All, ConsumerConfig::default());
        let client = client.await.unwrap();
        client.consumer("t", all, Start::Earliest, config).await
    });
    let consumer = consumer.unwrap();
    Box::new(Tokio { runtime, consumer })
}

/// Makes a consumer of one flavour.
type Consume = fn(&Broker) -> Box<dyn Flavour>;

/// All there are in this build.
const FLAVOURS: &[Consume] = &[
    blocking,
    #[cfg(feature = "tokio")]
    tokio,
];

/// A consumer from the oldest record on, to which the broker says something before it delivers what is stored.
struct Told {
    flavour: Box<dyn Flavour>,
    /// Its first subscription.
    subscription: usize,
}

/// A broker with the topic.
struct World(Broker);

impl World {
    fn new() -> Self {
        let broker = Broker::start(Options::default());
        broker.create("t", 1);
        let client = blocking::Client::connect(broker.address, quick()).unwrap();
        let config = ProducerConfig {
            batch_records_max: 1,
            ..ProducerConfig::default()
        };
        let producer = client.producer("t", config).unwrap();
        for number in 0..STORED {
            let value = number.to_string();
            producer
                .send(None, None, Some(value.as_bytes()), &[], None)
                .unwrap();
        }
        producer.close().unwrap();
        Self(broker)
    }

    /// The batches of the topic, as they are stored.
    fn stored(&self) -> Vec<Bytes> {
        self.0.state().topics[0].partitions[0].batches.clone()
    }

    /// A consumer of each flavour, one after the other, to which the broker says this first.
    fn told<'a>(&'a self, first: &'a [u8]) -> impl Iterator<Item = Told> + 'a {
        FLAVOURS.iter().map(move |open| {
            let mut state = self.0.state();
            let subscription = state.subscribes.len() + 1;
            state.scripted = Some((subscription, Bytes::copy_from_slice(first)));
            drop(state);
            Told {
                flavour: open(&self.0),
                subscription,
            }
        })
    }

    /// What was stored comes, from `offset` on, over another connection.
    fn assert_asked_again(&self, told: &mut Told, offset: u64) {
        told.assert_gets_stored(offset);
        self.0
            .wait_for(|state| state.ended.contains(&told.subscription));
    }
}

impl Told {
    fn assert_gets_stored(&mut self, offset: u64) {
        for number in offset..STORED {
            let delivery = self.flavour.next().unwrap();
            assert_eq!(records(&delivery), [(number, number.to_string())]);
        }
    }

    /// At which offset what comes next is refused, and why.
    fn refusal(&mut self) -> (Offset, BatchError) {
        match self.flavour.next() {
            Err(ClientError::BatchDamaged {
                partition: PartitionIndex(0),
                position,
                error,
            }) => (position, error),
            other => panic!("{other:?}"),
        }
    }
}

fn records(delivery: &Delivery) -> Vec<(u64, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    delivery
        .iter()
        .map(|(offset, record)| (offset.0, text(record.value)))
        .collect()
}

/// The batch as a broker at offset 0 would send it, once `change` was made to it and both checksums were made right again.
fn sealed(mut batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut batch);
    reseal(&mut batch);
    stamp_by_hand(&mut batch, TOPIC, 0, 0);
    batch
}

fn put_i32(bytes: &mut [u8], at: usize, value: i32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Where the root's pointer to a column stands; its length is behind it.
fn pointer(batch: &[u8], column: usize) -> usize {
    batch.len() - ROOT_BYTES + 8 * column
}

/// Archives whose pointers, lengths or contents lie.
fn poisoned_archives() -> Vec<Vec<u8>> {
    let plain = || full_batch(Compression::None);
    let mut poisoned = Vec::new();
    for column in 0..ELEMENT_BYTES.len() {
        for wild in [i32::MAX, i32::MIN, 0, 1] {
            poisoned.push(sealed(plain(), |batch| {
                let at = pointer(batch, column);
                put_i32(batch, at, wild);
            }));
        }
        for length in [u32::MAX, u32::MAX / 8, 1 << 20] {
            poisoned.push(sealed(plain(), |batch| {
                let at = pointer(batch, column) + 4;
                put_u32(batch, at, length);
            }));
        }
    }
    for ends in [KEY_ENDS, VALUE_ENDS, HEADER_ENDS, HEADER_PART_ENDS] {
        // Behind the blob, and back again behind the next one.
        for end in [0x7fff_ffff, 50_000] {
            poisoned.push(sealed(plain(), |batch| {
                let at = element(batch, ends, 0);
                put_u32(batch, at, end);
            }));
        }
    }
    poisoned.push(sealed(plain(), |batch| {
        let name = element(batch, HEADERS, 0);
        batch[name] = 0xff;
    }));
    poisoned.push(sealed(plain(), |batch| {
        batch.extend([0; ROOT_BYTES]);
        reseal_uncompressed(batch);
    }));
    poisoned.push(sealed(plain(), |batch| {
        batch.truncate(batch.len() - 8);
        reseal_uncompressed(batch);
    }));
    for compression in [Compression::Lz4, Compression::Zstd] {
        poisoned.push(sealed(full_batch(compression), |batch| {
            let body = HEADER_BYTES..batch.len();
            batch[body].fill(0x5a);
        }));
        poisoned.push(sealed(full_batch(compression), |batch| {
            batch.truncate(batch.len() - 1);
        }));
    }
    poisoned
}

/// Headers whose counts and lengths lie.
fn poisoned_headers() -> Vec<Vec<u8>> {
    const FORMAT: usize = 32;
    const COMPRESSION: usize = 33;
    const FLAGS: usize = 34;
    const RECORD_COUNT: usize = 36;
    const MAX_TIMESTAMP: usize = 48;
    const BODY_BYTES: usize = 72;
    const RESERVED: usize = 76;
    let plain = || full_batch(Compression::None);
    let mut poisoned = Vec::new();
    for count in [0, 1, 2, 4, 1_000, u32::MAX] {
        poisoned.push(sealed(plain(), |batch| {
            put_u32(batch, RECORD_COUNT, count);
        }));
    }
    for (at, byte) in [(FORMAT, 2), (COMPRESSION, 9), (FLAGS, 1), (RESERVED, 1)] {
        poisoned.push(sealed(plain(), |batch| batch[at] = byte));
    }
    poisoned.push(sealed(plain(), |batch| batch[MAX_TIMESTAMP] += 1));
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for change in [1, u32::MAX, 100_000] {
            poisoned.push(sealed(full_batch(compression), |batch| {
                let body_bytes = u32_at(batch, BODY_BYTES);
                put_u32(batch, BODY_BYTES, body_bytes.wrapping_add(change));
            }));
        }
    }
    // The length itself is under the stamps' checksum alone.
    for batch_bytes in [0, 79, 80, 100, 1 << 20, u32::MAX] {
        let mut batch = sealed(plain(), |_| {});
        put_u32(&mut batch, 0, batch_bytes);
        stamp_by_hand(&mut batch, TOPIC, 0, 0);
        poisoned.push(batch);
    }
    let mut beyond = sealed(plain(), |_| {});
    stamp_by_hand(&mut beyond, TOPIC, 0, u64::MAX);
    poisoned.push(beyond);
    poisoned
}

/// Why each flavour refuses what the broker says first; then everything stored comes.
fn refusals(world: &World, first: &[u8]) -> Vec<BatchError> {
    let each = world.told(first).map(|mut told| {
        let (position, error) = told.refusal();
        assert_eq!(position, Offset(0));
        world.assert_asked_again(&mut told, 0);
        error
    });
    each.collect()
}

fn assert_all_refused(poisoned: &[Vec<u8>]) {
    let world = World::new();
    for batch in poisoned {
        refusals(&world, batch);
    }
}

#[test]
fn an_archive_that_lies_under_right_checksums_ends_the_connection_and_none_of_it_is_delivered() {
    assert_all_refused(&poisoned_archives());
}

#[test]
fn a_header_that_lies_under_right_checksums_ends_the_connection_and_none_of_it_is_delivered() {
    assert_all_refused(&poisoned_headers());
}

#[test]
fn a_flipped_bit_under_right_checksums_is_refused_for_its_reason_or_read_to_the_last_record() {
    let world = World::new();
    let (mut refused, mut read) = (0, 0);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let whole = full_batch(compression);
        // A prime, so that every bit of a byte has its turn.
        for bit in (32 * 8..whole.len() * 8).step_by(29) {
            let flipped = sealed(whole.clone(), |batch| batch[bit / 8] ^= 1 << (bit % 8));
            match Records::open(Bytes::copy_from_slice(&flipped)) {
                Err(error) => {
                    refused += 1;
                    let refusals = refusals(&world, &flipped);
                    assert!(refusals.iter().all(|refusal| *refusal == error), "{bit}");
                }
                Ok(_) => {
                    read += 1;
                    for mut told in world.told(&flipped) {
                        let delivery = told.flavour.next().unwrap();
                        assert_eq!(delivery.iter().count(), 3, "bit {bit}");
                    }
                }
            }
        }
    }
    assert!(refused > 0 && read > 0, "{refused} and {read}");
}

#[test]
fn what_stands_before_a_poisoned_batch_is_delivered_and_nothing_behind_it() {
    let world = World::new();
    let stored = world.stored();
    let mut poisoned = sealed(full_batch(Compression::None), |batch| {
        let at = pointer(batch, VALUES);
        put_i32(batch, at, i32::MIN);
    });
    stamp_by_hand(&mut poisoned, TOPIC, 0, 1);
    for mut told in world.told(&[&stored[0][..], &poisoned[..], &stored[2][..]].concat()) {
        let before = told.flavour.next().unwrap();
        assert_eq!(records(&before), [(0, "0".to_owned())]);
        assert_eq!(told.refusal().0, Offset(1));
        world.assert_asked_again(&mut told, 1);
    }
}

#[test]
fn a_batch_behind_a_hole_is_refused_and_what_is_missing_is_asked_for() {
    let world = World::new();
    let stored = world.stored();
    let behind = |found, expected| BatchError::Misplaced {
        found: Offset(found),
        expected: Offset(expected),
    };
    for refusal in refusals(&world, &stored[1]) {
        assert_eq!(refusal, behind(1, 0));
    }
    for mut told in world.told(&[&stored[0][..], &stored[2][..]].concat()) {
        let before = told.flavour.next().unwrap();
        assert_eq!(records(&before), [(0, "0".to_owned())]);
        assert_eq!(told.refusal(), (Offset(1), behind(2, 1)));
        world.assert_asked_again(&mut told, 1);
    }
}

#[test]
fn a_batch_that_was_delivered_already_is_not_delivered_again() {
    let world = World::new();
    let stored = world.stored();
    let again = [0, 0, 1, 0].map(|number| &stored[number][..]).concat();
    for mut told in world.told(&again) {
        told.assert_gets_stored(0);
    }
}
