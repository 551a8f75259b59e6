use super::*;
use crate::control::catalogue::Catalogue;
use crate::io::sim::SimSpawn;
use crate::shard::forwarded::ForwardedPublish;
use crate::shard::mail::{Outgoing, ShardMessage};
use crate::shard::requests::{Shard, ShardBounds, ShardParts};

type SimShard = Shard<SimDisk, SimClock, SimSpawn>;

const BATCH_BYTES: usize = 60 << 10;
const MEMORY_BYTES: u64 = 1 << 20;
/// A batch of these tests, when it is on its way to another shard.
const FORWARDED_BYTES: usize = 61 << 10;

pub(super) fn shard_of(world: &World) -> (Rc<SimShard>, Rc<Outgoing>) {
    let (shard, outgoing) = shard_of_several(world, 1);
    (shard, outgoing[1].clone())
}

/// One of `shards` by the layout, with ways to two others.
fn shard_of_several(world: &World, shards: u16) -> (Rc<SimShard>, Vec<Rc<Outgoing>>) {
    shard_with(world, shards, None)
}

/// The same, perhaps with the catalogue.
pub(super) fn shard_with(
    world: &World,
    shards: u16,
    catalogue: Option<Catalogue<SimDisk>>,
) -> (Rc<SimShard>, Vec<Rc<Outgoing>>) {
    let mut state = world.catalogue.clone();
    state.layout.shards = shards;
    let outgoing: Vec<Rc<Outgoing>> = (0..3).map(|_| Rc::default()).collect();
    let shard = Shard::new(ShardParts {
        index: ShardIndex(0),
        log: world.log.clone(),
        spawn: world.executor.spawner(),
        state,
        catalogue,
        outgoing: outgoing.clone(),
        bounds: ShardBounds {
            partitions_max: 10,
            partitions_default: 1,
            topic_defaults: TopicSettings::default(),
            connection_buffer_bytes_max: 1 << 20,
            forward_bytes_max: 2 * FORWARDED_BYTES,
        },
    });
    (shard, outgoing)
}

fn publish_of(key: PartitionKey, number: u64) -> ShardMessage {
    let batch = batch_of(1, BATCH_BYTES, None);
    let header = check_batch(
        &batch,
        &BatchLimits::default(),
        CheckDepth::Full,
        &mut CheckScratch::new(),
    )
    .unwrap();
    ShardMessage::Publish {
        from: ShardIndex(1),
        number,
        key,
        durability: None,
        batch,
        header,
        others_in_flight: false,
    }
}

fn small_world() -> World {
    World::with_config(
        1,
        LogConfig {
            unflushed_bytes_max: MEMORY_BYTES,
            // All of it goes through the journal, in commits of its own size.
            direct_bytes_min: 8 << 20,
            flush_bytes: MEMORY_BYTES / 2,
            ..config()
        },
    )
}

/// What became of the publishes, in the order of the answers.
fn answers(world: &World, outgoing: &Outgoing, count: usize) -> Vec<(u64, Outcome)> {
    let mut answers = Vec::new();
    while answers.len() < count {
        for message in world.executor.block_on(outgoing.take(count)) {
            match message {
                ShardMessage::Published { number, outcome } => answers.push((number, outcome)),
                other => panic!("{other:?}"),
            }
        }
    }
    answers
}

#[test]
fn publishes_from_other_shards_wait_for_this_ones_memory_and_keep_their_order() {
    let world = small_world();
    let (shard, outgoing) = shard_of(&world);
    for number in 0..100 {
        shard.handle(publish_of(key(1, 0), number));
    }
    let mut steps = 0;
    while steps == 0 || world.executor.run_steps(1) > 0 && steps < 20_000 {
        let gathered = world.log.arrivals.bytes() as u64;
        assert!(
            gathered < MEMORY_BYTES + 2 * BATCH_BYTES as u64,
            "{gathered} bytes wait after {steps} steps"
        );
        steps += 1;
    }
    let answers = answers(&world, &outgoing, 100);
    for (number, (correlation, outcome)) in (0..).zip(answers) {
        assert_eq!(correlation, number);
        assert!(
            matches!(outcome, Outcome::Published { base_offset, .. } if base_offset == Offset(number)),
            "{number}: {outcome:?}"
        );
    }
}

#[test]
fn publishes_that_wait_when_their_topic_is_deleted_are_answered() {
    let mut world = small_world();
    let (shard, outgoing) = shard_of(&world);
    for number in 0..100 {
        shard.handle(publish_of(key(1, 0), number));
    }
    world.delete(TopicId(1));
    let answers = answers(&world, &outgoing, 100);
    let mut numbers: Vec<u64> = answers.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<u64>>());
    assert!(answers.iter().all(|(_, outcome)| {
        failed_with(outcome, ErrorCode::TopicDeleted)
            || failed_with(outcome, ErrorCode::TopicUnknown)
    }));
}

/// Has the shard forward a batch; whether it could at once.
fn forward(world: &mut World, shard: &Rc<SimShard>, owner: u16) -> bool {
    let batch = batch_of(1, BATCH_BYTES, None);
    let limits = BatchLimits::default();
    let header = check_batch(&batch, &limits, CheckDepth::Full, &mut CheckScratch::new()).unwrap();
    let publish = ForwardedPublish {
        key: key(1, 0),
        batch: CheckedBatch {
            bytes: batch,
            header,
        },
        durability: None,
        completion: world.completion(),
    };
    let forwarded = shard.forward(ShardIndex(owner), publish);
    world.executor.block_on_steps(forwarded, 10).is_ok()
}

#[test]
fn a_shard_without_memory_does_not_hold_up_publishes_to_another_one() {
    let mut world = small_world();
    let (shard, _) = shard_of_several(&world, 3);
    let to_one: Vec<bool> = (0..3).map(|_| forward(&mut world, &shard, 1)).collect();
    assert_eq!(to_one, [true, true, false], "the budget is for two");
    assert!(forward(&mut world, &shard, 2));
}

#[test]
fn a_publish_at_another_shard_holds_its_budget_until_it_is_answered_whoever_still_waits() {
    let mut world = small_world();
    let (shard, outgoing) = shard_of_several(&world, 3);
    // Who sent these two is gone at once: nobody but the shard knows them any more.
    assert!(forward(&mut world, &shard, 1) && forward(&mut world, &shard, 1));
    world.answers = Rc::default();
    assert!(!forward(&mut world, &shard, 1));
    let sent = world.executor.block_on(outgoing[1].take(10));
    let Some(ShardMessage::Publish { number, .. }) = sent.first() else {
        panic!("{sent:?}")
    };
    let refused = Outcome::Failed(gannet_wire::ErrorBody::of_code(ErrorCode::DiskFull));
    shard.handle(ShardMessage::Published {
        number: *number,
        outcome: refused,
    });
    assert!(forward(&mut world, &shard, 1));
}
