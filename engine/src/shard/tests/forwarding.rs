use gannet_wire::CorrelationId;

use super::*;
use crate::io::sim::SimSpawn;
use crate::shard::mail::{ConnectionId, Outgoing, RemoteConnection, ShardMessage};
use crate::shard::requests::{Shard, ShardBounds, ShardParts};

const BATCH_BYTES: usize = 60 << 10;
const MEMORY_BYTES: u64 = 1 << 20;

pub(super) fn shard_of(world: &World) -> (Rc<Shard<SimDisk, SimClock, SimSpawn>>, Rc<Outgoing>) {
    let outgoing: Vec<Rc<Outgoing>> = vec![Rc::default(), Rc::default()];
    let answers = outgoing[1].clone();
    let shard = Shard::new(ShardParts {
        index: ShardIndex(0),
        log: world.log.clone(),
        spawn: world.executor.spawner(),
        state: world.catalogue.clone(),
        catalogue: None,
        outgoing,
        bounds: ShardBounds {
            partitions_max: 10,
            partitions_default: 1,
            topic_defaults: TopicSettings::default(),
            connection_buffer_bytes_max: 1 << 20,
        },
    });
    (shard, answers)
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
        from: RemoteConnection {
            shard: ShardIndex(1),
            connection: ConnectionId(7),
        },
        correlation: CorrelationId(number),
        key,
        durability: None,
        batch,
        header,
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
                ShardMessage::Published {
                    correlation,
                    outcome,
                    ..
                } => answers.push((correlation.0, outcome)),
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
