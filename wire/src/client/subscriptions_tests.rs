#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::frame::{PartitionDescription, TopicSettings};
use crate::ids::{LeaderEpoch, Offset, TopicId};

/// Keeps what is granted, as a desk without a connection does.
#[derive(Default)]
struct Kept(Mutex<Grants>);

impl GrantDesk for Kept {
    fn keep(&self, subscription: SubscriptionId, bytes: u64) {
        locked(&self.0).keep(subscription, bytes);
    }

    fn forget(&self, subscription: SubscriptionId) {
        locked(&self.0).forget(subscription);
    }

    fn send(&self) {}
}

fn account(desk: &Arc<Kept>) -> Account {
    Account {
        subscription: SubscriptionId(1),
        credit_bytes: 100,
        books: Mutex::default(),
        desk: Arc::clone(desk) as Arc<dyn GrantDesk>,
    }
}

fn kept(desk: &Kept) -> Option<u64> {
    locked(&desk.0).0.get(&SubscriptionId(1)).copied()
}

#[test]
fn all_credit_given_back_between_two_connections_is_granted_to_the_second() {
    let desk = Arc::new(Kept::default());
    let account = account(&desk);
    account.hold(100);
    assert_eq!(account.begin(), 0, "the program holds all of it");
    account.give_back(100);
    assert_eq!(kept(&desk), Some(100));
}

#[test]
fn credit_given_back_before_a_connection_begins_is_part_of_what_it_begins_with() {
    let desk = Arc::new(Kept::default());
    let account = account(&desk);
    account.hold(60);
    account.give_back(60);
    assert_eq!((account.begin(), kept(&desk)), (100, None));
}

#[test]
fn partitions_are_subscribed_to_in_the_order_in_which_they_are_asked_for() {
    let described = |number: u32| PartitionDescription {
        partition: PartitionIndex(number),
        shard: ShardIndex(0),
        log_start: Offset(0),
        next_offset: Offset(0),
        leader_epoch: LeaderEpoch(0),
        fences: Vec::new(),
        stored_bytes: 0,
    };
    let topic = TopicDescription {
        topic: TopicId(1),
        name: "many".to_owned(),
        settings: TopicSettings::default(),
        partitions: (0..500).map(described).collect(),
    };
    // Backwards: neither by their indexes nor as a hash would have it.
    let starts: Vec<_> = (0..500)
        .rev()
        .map(|number| (PartitionIndex(number), Start::Earliest))
        .collect();
    let by_shard = Subscriptions::by_shard(&topic, &starts, 100, || Arc::new(Kept::default()));
    let (subscriptions, _) = by_shard.unwrap().remove(&ShardIndex(0)).unwrap();
    let asked = subscriptions.subscribes();
    let partitions = asked.iter().map(|(_, message)| match message {
        Message::Subscribe(subscribe) => subscribe.partition,
        other => panic!("{other:?}"),
    });
    assert!(partitions.eq(starts.iter().map(|(partition, _)| *partition)));
}
