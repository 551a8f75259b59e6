//! The subscriptions that one shard serves, over all the connections they outlive. No I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;

use super::error::ClientError;
use super::hub::locked;
use super::subscription::{CreditAccount, Delivery, Subscription};
use crate::batch::CheckScratch;
use crate::frame::{Frame, Message, Start, TopicDescription, encode};
use crate::ids::{CorrelationId, PartitionIndex, ShardIndex, SubscriptionId};

/// Where credit is granted, over all the connections there are. Used by whichever thread drops a delivery.
pub(crate) trait GrantDesk: Send + Sync {
    /// Keeps a grant until it can be sent.
    fn keep(&self, subscription: SubscriptionId, bytes: u64);
    /// Drops what is kept: the credit that a new connection begins with has it.
    fn forget(&self, subscription: SubscriptionId);
    /// Sends what is kept, if there is a connection.
    fn send(&self);
}

/// Grants that wait for a connection, or for the one who writes.
#[derive(Default)]
pub(crate) struct Grants(BTreeMap<SubscriptionId, u64>);

impl Grants {
    pub(crate) fn keep(&mut self, subscription: SubscriptionId, bytes: u64) {
        *self.0.entry(subscription).or_default() += bytes;
    }

    pub(crate) fn forget(&mut self, subscription: SubscriptionId) {
        self.0.remove(&subscription);
    }

    /// The frames that say all of them.
    pub(crate) fn take_frames(&mut self) -> BytesMut {
        let mut frames = BytesMut::new();
        while let Some((subscription, bytes)) = self.0.pop_first() {
            let message = Message::Credit(subscription, bytes);
            encode(CorrelationId(0), &message, &mut frames);
        }
        frames
    }
}

/// Each connection: send what [`subscribes`](Self::subscribes) gives, hand every frame to
/// [`handle_frame`](Self::handle_frame), and take what [`poll`](Self::poll) gives.
pub(crate) struct Subscriptions {
    by_id: HashMap<SubscriptionId, (Subscription, Arc<Account>)>,
    ready: VecDeque<Delivery>,
    scratch: CheckScratch,
}

impl Subscriptions {
    /// Sorts the partitions asked for by the shard that owns them; `desk` makes the desk of a shard.
    pub(crate) fn by_shard<D: GrantDesk + 'static>(
        topic: &TopicDescription,
        starts: &[(PartitionIndex, Start)],
        credit_bytes: u64,
        desk: impl Fn() -> Arc<D>,
    ) -> Result<HashMap<ShardIndex, (Self, Arc<D>)>, ClientError> {
        if starts.is_empty() {
            return Err(ClientError::InvalidArgument("no partition is asked for"));
        }
        let mut by_shard: HashMap<ShardIndex, (Self, Arc<D>)> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for (&(partition, start), id) in starts.iter().zip(1..) {
            if !seen.insert(partition) {
                return Err(ClientError::InvalidArgument(
                    "a partition is asked for twice",
                ));
            }
            let Some(described) = topic.partitions.get(partition.0 as usize) else {
                return Err(ClientError::InvalidArgument(
                    "the topic has no such partition",
                ));
            };
            let (subscriptions, desk) = by_shard
                .entry(described.shard)
                .or_insert_with(|| (Self::new(), desk()));
            let id = SubscriptionId(id);
            let account = Arc::new(Account {
                subscription: id,
                credit_bytes,
                books: Mutex::default(),
                desk: Arc::clone(desk) as Arc<dyn GrantDesk>,
            });
            let shared = Arc::clone(&account) as Arc<dyn CreditAccount>;
            let subscription = Subscription::new(id, topic.topic, partition, start, shared);
            subscriptions.by_id.insert(id, (subscription, account));
        }
        Ok(by_shard)
    }

    fn new() -> Self {
        Self {
            by_id: HashMap::new(),
            ready: VecDeque::new(),
            scratch: CheckScratch::new(),
        }
    }

    /// The requests for a new connection, in the order in which the partitions were asked for: what a broker stores of neighbours lies side by side, and is
    /// read once if they want it one after the other. Deliveries the program still holds count against the credit.
    pub(crate) fn subscribes(&self) -> Vec<(CorrelationId, Message)> {
        let mut requests: Vec<_> = self
            .by_id
            .values()
            .filter(|(subscription, _)| !subscription.has_ended())
            .map(|(subscription, account)| {
                // The subscription's number serves as the correlation, so that a refusal finds it.
                let correlation = CorrelationId(subscription.id().0);
                (correlation, subscription.subscribe(account.begin()))
            })
            .collect();
        requests.sort_unstable_by_key(|(correlation, _)| *correlation);
        requests
    }

    /// The next delivery that came.
    pub(crate) fn poll(&mut self) -> Option<Delivery> {
        self.ready.pop_front()
    }

    /// Whether it is settled for each where it begins: whatever is published from then on comes.
    pub(crate) fn have_begun(&self) -> bool {
        self.by_id.values().all(|(one, _)| one.has_begun())
    }

    /// Whether no more will come.
    pub(crate) fn have_ended(&self) -> bool {
        self.ready.is_empty() && self.by_id.values().all(|(one, _)| one.has_ended())
    }

    /// # Errors
    /// An ended subscription leaves the connection as it is; after anything else it is to be closed.
    pub(crate) fn handle_frame(&mut self, frame: Frame) -> Result<(), ClientError> {
        match frame.message {
            Message::Deliver(deliver) => {
                let Some((subscription, _)) = self.by_id.get_mut(&deliver.subscription) else {
                    return Err(ClientError::Protocol(
                        "Deliver names no subscription of ours",
                    ));
                };
                subscription.handle_deliver(deliver, &mut self.scratch, &mut self.ready)
            }
            Message::Subscribed(subscribed) => {
                if let Some((subscription, _)) = self.by_id.get_mut(&subscribed.subscription) {
                    subscription.handle_subscribed(&subscribed);
                }
                Ok(())
            }
            Message::SubscriptionEnd(end) => match self.by_id.get_mut(&end.subscription) {
                Some((subscription, _)) => Err(subscription.handle_end(end.error)),
                None => Ok(()),
            },
            Message::Error(error) => {
                match self.by_id.get_mut(&SubscriptionId(frame.correlation.0)) {
                    Some((subscription, _)) => Err(subscription.handle_end(error)),
                    None => Err(ClientError::Server(error)),
                }
            }
            _ => Ok(()),
        }
    }
}

/// What one subscription has granted.
struct Account {
    subscription: SubscriptionId,
    credit_bytes: u64,
    books: Mutex<Books>,
    desk: Arc<dyn GrantDesk>,
}

#[derive(Default)]
struct Books {
    /// Bytes of deliveries that exist.
    held_bytes: u64,
    /// Bytes given back and not granted again yet.
    to_grant: u64,
}

impl Account {
    /// The credit to begin a connection with. What is given back from now on is granted on top of it.
    fn begin(&self) -> u64 {
        let mut books = locked(&self.books);
        books.to_grant = 0;
        // IMPORTANT: under the lock. A grant between the two would count twice, or not at all.
        self.desk.forget(self.subscription);
        self.credit_bytes.saturating_sub(books.held_bytes)
    }
}

impl CreditAccount for Account {
    fn hold(&self, bytes: u64) {
        locked(&self.books).held_bytes += bytes;
    }

    fn give_back(&self, bytes: u64) {
        {
            let mut books = locked(&self.books);
            books.held_bytes -= bytes;
            books.to_grant += bytes;
            // A frame for each quarter of the window is seldom enough to be cheap and soon enough not to stall.
            if books.to_grant < (self.credit_bytes / 4).max(1) {
                return;
            }
            let granted = std::mem::take(&mut books.to_grant);
            self.desk.keep(self.subscription, granted);
        }
        // May wait for the socket, so nobody else may have to wait for this one.
        self.desk.send();
    }
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
