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
    let mut world = World::new(1);
    for _ in 0..batches {
        world.publish(key(1, 0), BATCH_BYTES);
    }
    world.executor.run_for(Duration::from_millis(100));
    let (shard, outgoing) = shard_of(&world);
    (world, shard, outgoing)
}

fn subscribe(subscription: u64, start: Start, credit: u64) -> ShardMessage {
    ShardMessage::Subscribe {
        from: FROM,
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
    shard.handle(subscribe(1, Start::Earliest, 1));
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
