#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

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
