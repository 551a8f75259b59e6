//! Subscriptions as a connection of another shard sees them.

use gannet_wire::frame::{Start, Subscribe};
use gannet_wire::{CorrelationId, SubscriptionId};

use super::forwarding::shard_of;
use super::*;
use crate::io::sim::SimSpawn;
use crate::shard::mail::{ConnectionId, Outgoing, RemoteConnection, ShardMessage};
use crate::shard::requests::Shard;

const BATCH_BYTES: usize = 10 << 10;

const FROM: RemoteConnection = RemoteConnection {
    shard: ShardIndex(1),
    connection: ConnectionId(7),
};

type SimShard = Shard<SimDisk, SimClock, SimSpawn>;

/// A shard with `batches` batches of one record in a partition.
fn shard_with_batches(batches: usize) -> (World, Rc<SimShard>, Rc<Outgoing>) {
    // What is read does not depend on whether it has been flushed.
    let config = LogConfig {
        tail_cache_bytes: 32 << 20,
        ..config()
    };
    let mut world = World::with_config(1, config);
    for _ in 0..batches {
        world.publish(key(1, 0), BATCH_BYTES);
    }
    world.executor.run_for(Duration::from_millis(100));
    let (shard, outgoing) = shard_of(&world);
    (world, shard, outgoing)
}

fn subscribe(from: RemoteConnection, subscription: u64, start: Start, credit: u64) -> ShardMessage {
    ShardMessage::Subscribe {
        from,
        correlation: CorrelationId(subscription),
        subscribe: Subscribe {
            subscription: SubscriptionId(subscription),
            topic: TopicId(1),
            partition: PartitionIndex(0),
            start,
            credit,
        },
    }
}

/// All that the shard has said to the other one until it has nothing more to do.
fn said(world: &World, outgoing: &Outgoing) -> Vec<ShardMessage> {
    world.executor.run_for(Duration::from_millis(100));
    let mut said = Vec::new();
    while let Ok(messages) = world.executor.block_on_steps(outgoing.take(100), 10) {
        said.extend(messages);
    }
    said
}

fn delivered_bytes(said: &[ShardMessage]) -> usize {
    said.iter()
        .map(|message| match message {
            ShardMessage::Deliver { batches, .. } => batches.len(),
            _ => 0,
        })
        .sum()
}

#[test]
fn credit_that_was_overdrawn_is_paid_back_before_more_is_sent() {
    let (world, shard, outgoing) = shard_with_batches(3);
    shard.handle(subscribe(FROM, 1, Start::Earliest, 1));
    let first = delivered_bytes(&said(&world, &outgoing));
    assert!((BATCH_BYTES..2 * BATCH_BYTES).contains(&first), "{first}");
    // As a client does that gives back all it took.
    let grant = |bytes: usize| {
        shard.handle(ShardMessage::Credit(FROM, SubscriptionId(1), bytes as u64));
        delivered_bytes(&said(&world, &outgoing))
    };
    assert_eq!(grant(first - 1), 0, "the credit is just spent");
    assert_eq!(grant(1), first, "all is given back: one is left");
}

#[test]
fn a_subscriber_who_catches_up_from_memory_lets_others_have_their_turn() {
    let (world, shard, outgoing) = shard_with_batches(200);
    let other = RemoteConnection {
        connection: ConnectionId(8),
        ..FROM
    };
    for from in [FROM, other] {
        shard.handle(subscribe(from, 1, Start::Earliest, u64::MAX));
    }
    let mut to = Vec::new();
    for message in said(&world, &outgoing) {
        if let ShardMessage::Deliver { connection, .. } = message {
            to.push(connection);
        }
    }
    let place = |connection| {
        let at = |found: Option<usize>| found.expect("it gets all there is");
        let is_to = |of: &ConnectionId| *of == connection;
        at(to.iter().position(is_to))..at(to.iter().rposition(is_to))
    };
    let [one, another] = [FROM, other].map(|from| place(from.connection));
    assert!(one.start < another.end && another.start < one.end, "{to:?}");
}

#[test]
fn credit_for_another_shard_waits_as_one_message_for_each_subscription() {
    let world = World::new(1);
    let outgoing = Outgoing::default();
    let taken = |max| {
        let mut credits = Vec::new();
        for message in world.executor.block_on(outgoing.take(max)) {
            match message {
                ShardMessage::Credit(_, subscription, bytes) => {
                    credits.push((subscription.0, bytes));
                }
                ShardMessage::Unsubscribe(..) => credits.push((0, 0)),
                other => panic!("{other:?}"),
            }
        }
        credits
    };
    for _ in 0..1_000 {
        outgoing.push_credit(FROM, SubscriptionId(1), 2);
        outgoing.push_credit(FROM, SubscriptionId(2), 3);
    }
    outgoing.push_unsubscribe(FROM, CorrelationId(1), SubscriptionId(1));
    // Of another subscription with that name.
    outgoing.push_credit(FROM, SubscriptionId(1), 5);
    outgoing.push_credit(FROM, SubscriptionId(1), 6);
    assert_eq!(taken(1), [(1, 2_000)]);
    outgoing.push_credit(FROM, SubscriptionId(2), 1);
    assert_eq!(taken(100), [(2, 3_001), (0, 0), (1, 11)]);
    outgoing.push_credit(FROM, SubscriptionId(1), 7);
    assert_eq!(taken(100), [(1, 7)]);
}

#[test]
fn a_look_up_that_nobody_waits_for_any_more_ends() {
    let (world, _, _) = shard_with_batches(10);
    let slot = world.slot(key(1, 0));
    let start = Start::Timestamp(gannet_wire::Timestamp(i64::MAX));
    let found = |given_up: &dyn Fn() -> bool| {
        let found = world.log.start_offset_unless(&slot, start, given_up);
        world.executor.block_on(found).unwrap()
    };
    assert_eq!(found(&|| false), Offset(10));
    assert_eq!(found(&|| true), Offset(0));
}
