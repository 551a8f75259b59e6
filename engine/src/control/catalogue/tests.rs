#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::io::sim::{CrashPolicy, SimDisk, SimExecutor};

const BROKER: u64 = 77;
const LAYOUT: Layout = Layout {
    number: 1,
    shards: 2,
    incarnation: 1,
};

fn dir() -> &'static Path {
    Path::new("/catalogue")
}

fn settings() -> TopicSettings {
    TopicSettings {
        retention_ms: Some(1_000),
        retention_bytes: None,
        ..TopicSettings::default()
    }
}

struct World {
    executor: SimExecutor,
    disk: SimDisk,
}

impl World {
    fn new() -> Self {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(&executor);
        Self { executor, disk }
    }

    fn open(&self) -> Catalogue<SimDisk> {
        self.executor
            .block_on(Catalogue::open(&self.disk, dir(), BROKER))
            .unwrap()
    }

    fn load(&self) -> Result<Option<(CatalogueState, u64)>, StorageError> {
        self.executor.block_on(Catalogue::load(&self.disk, dir()))
    }

    fn create(&self, catalogue: &mut Catalogue<SimDisk>, name: &str) -> Topic {
        self.executor
            .block_on(catalogue.create(name.into(), 3, settings()))
            .unwrap()
    }

    fn delete(&self, catalogue: &mut Catalogue<SimDisk>, name: &str) -> bool {
        self.executor
            .block_on(catalogue.delete(name))
            .unwrap()
            .is_some()
    }

    /// A log of these entries, checksums and all.
    fn write(&self, entries: &[Vec<u8>]) {
        self.executor.block_on(async {
            let mut log = RecordLog::start(&self.disk, dir(), CATALOGUE_NAME, 1, &entries[0])
                .await
                .unwrap();
            for entry in &entries[1..] {
                log.append(entry).await.unwrap();
            }
        });
    }

    fn is_refused(&self, events: Vec<Event>) -> bool {
        let entries: Vec<Vec<u8>> = events.iter().map(Event::encode).collect();
        self.write(&entries);
        matches!(self.load(), Err(StorageError::Damaged { .. }))
    }
}

fn empty_snapshot() -> Snapshot {
    Snapshot {
        version: CATALOGUE_VERSION,
        topics: Vec::new(),
        next_topic: 1,
        incarnation: 1,
        layout: LAYOUT,
        broker_id: BROKER,
    }
}

fn record(id: u64, name: &str) -> TopicRecord {
    TopicRecord::from(&Topic {
        id: TopicId(id),
        name: name.into(),
        partitions: 1,
        settings: settings(),
    })
}

fn snapshot_of(topics: Vec<TopicRecord>, next_topic: u64) -> Event {
    Event::Snapshot(Snapshot {
        topics,
        next_topic,
        ..empty_snapshot()
    })
}

#[test]
fn there_is_no_catalogue_before_the_first_start() {
    assert_eq!(World::new().load().unwrap(), None);
}

#[test]
fn a_topic_is_there_after_a_crash_once_its_creation_returned() {
    let world = World::new();
    let topic = world.create(&mut world.open(), "orders");
    world.disk.crash(CrashPolicy::KeepSynced);
    let (state, _) = world.load().unwrap().unwrap();
    assert_eq!(**state.named("orders").unwrap(), topic);
}

#[test]
fn ids_count_up_from_one() {
    let world = World::new();
    let mut catalogue = world.open();
    let ids = ["a", "b", "c"].map(|name| world.create(&mut catalogue, name).id.0);
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn an_id_is_never_used_again_after_deletions_and_restarts() {
    let world = World::new();
    let mut catalogue = world.open();
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(world.create(&mut catalogue, "orders").id.0);
        world.delete(&mut catalogue, "orders");
        drop(catalogue);
        world.disk.crash(CrashPolicy::KeepSynced);
        catalogue = world.open();
    }
    assert_eq!(given, [1, 2, 3]);
}

#[test]
fn a_deleted_topic_leaves_a_tombstone() {
    let world = World::new();
    let mut catalogue = world.open();
    world.create(&mut catalogue, "orders");
    assert!(world.delete(&mut catalogue, "orders"));
    let state = world.load().unwrap().unwrap().0;
    assert_eq!(state.named("orders"), None);
    assert_eq!(state.life(TopicId(1)), TopicLife::Deleted);
    assert_eq!(state.life(TopicId(2)), TopicLife::NeverGivenOut);
}

#[test]
fn a_topic_that_is_not_there_is_not_deleted() {
    let world = World::new();
    assert!(!world.delete(&mut world.open(), "orders"));
}

#[test]
fn the_incarnation_rises_durably_with_every_start() {
    let world = World::new();
    for incarnation in 1..4 {
        assert_eq!(world.open().state().incarnation, incarnation);
        world.disk.crash(CrashPolicy::KeepSynced);
    }
}

#[test]
fn the_brokers_id_is_drawn_once() {
    let world = World::new();
    world.open();
    let again = world
        .executor
        .block_on(Catalogue::open(&world.disk, dir(), 99))
        .unwrap();
    assert_eq!(again.state().broker_id, BROKER);
}

#[test]
fn a_layout_is_kept() {
    let world = World::new();
    let mut catalogue = world.open();
    world.executor.block_on(catalogue.lay_out(LAYOUT)).unwrap();
    assert_eq!(world.open().state().layout, LAYOUT);
}

#[test]
fn all_of_a_topic_comes_back_after_a_restart() {
    let world = World::new();
    let topic = world.create(&mut world.open(), "orders");
    assert_eq!(**world.open().state().named("orders").unwrap(), topic);
}

#[test]
fn every_partition_has_an_owner_among_the_shards() {
    for shards in 1..5 {
        let layout = Layout { shards, ..LAYOUT };
        let topic = record(u64::MAX, "orders").to_topic().unwrap();
        assert!(topic.keys().all(|key| layout.owner(key).0 < shards));
    }
}

#[test]
fn a_newer_version_is_refused() {
    let world = World::new();
    let newer = Event::Snapshot(Snapshot {
        version: CATALOGUE_VERSION + 1,
        ..empty_snapshot()
    });
    world.write(&[newer.encode()]);
    assert!(matches!(
        world.load(),
        Err(StorageError::Newer { found: 2, .. })
    ));
}

#[test]
fn an_id_out_of_turn_is_refused() {
    for id in [0, 2] {
        let events = vec![snapshot_of(Vec::new(), 1), Event::Created(record(id, "a"))];
        assert!(World::new().is_refused(events), "id {id}");
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let events = vec![
        snapshot_of(vec![record(1, "a")], 2),
        Event::Created(record(2, "a")),
    ];
    assert!(World::new().is_refused(events));
}

#[test]
fn the_deletion_of_a_topic_that_is_not_there_is_refused() {
    let events = vec![snapshot_of(Vec::new(), 5), Event::Deleted(1)];
    assert!(World::new().is_refused(events));
}

#[test]
fn a_change_before_the_snapshot_is_refused() {
    assert!(World::new().is_refused(vec![Event::LaidOut(LAYOUT)]));
}

#[test]
fn a_second_snapshot_is_refused() {
    let events = vec![snapshot_of(Vec::new(), 1), snapshot_of(Vec::new(), 1)];
    assert!(World::new().is_refused(events));
}

#[test]
fn a_snapshot_with_an_id_that_was_never_given_out_is_refused() {
    // The next topic would get the same id.
    assert!(World::new().is_refused(vec![snapshot_of(vec![record(3, "a")], 3)]));
}

#[test]
fn a_snapshot_with_one_id_or_one_name_twice_is_refused() {
    for topics in [
        vec![record(1, "a"), record(1, "b")],
        vec![record(1, "a"), record(2, "a")],
    ] {
        assert!(World::new().is_refused(vec![snapshot_of(topics, 3)]));
    }
}

#[test]
fn ids_that_are_used_up_are_refused() {
    let events = vec![
        snapshot_of(Vec::new(), u64::MAX),
        Event::Created(record(u64::MAX, "a")),
    ];
    assert!(World::new().is_refused(events));
}

#[test]
fn a_setting_that_is_none_is_refused() {
    let odd = TopicRecord {
        durability: 99,
        ..record(1, "a")
    };
    assert!(World::new().is_refused(vec![snapshot_of(vec![odd], 2)]));
}

/// What loading says of one entry with a right checksum and wrong bytes.
fn outcome(entry: &[u8]) -> Result<Option<(CatalogueState, u64)>, StorageError> {
    let world = World::new();
    world.write(&[entry.to_vec()]);
    world.load()
}

fn is_typed(outcome: &Result<Option<(CatalogueState, u64)>, StorageError>) -> bool {
    matches!(
        outcome,
        Ok(Some(_)) | Err(StorageError::Damaged { .. } | StorageError::Newer { .. })
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_with_a_right_checksum_end_in_a_typed_outcome(entry in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(is_typed(&outcome(&entry)));
    }

    #[test]
    fn a_mutated_snapshot_ends_in_a_typed_outcome(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut entry = snapshot_of(vec![record(1, "orders"), record(2, "a name that is not inline")], 3).encode();
        for (at, byte) in changes {
            let at = at.index(entry.len());
            entry[at] = byte;
        }
        prop_assert!(is_typed(&outcome(&entry)));
    }
}
