//! The subscriptions that one shard serves, over all the connections they outlive. No I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::ClientError;
use super::subscription::{CreditAccount, Delivery, Subscription};
use crate::batch::CheckScratch;
use crate::frame::{Frame, Message, Start, TopicDescription};
use crate::ids::{CorrelationId, PartitionIndex, ShardIndex, SubscriptionId};

/// Sends Credit frames; called by whichever thread drops the delivery that makes one worth while.
pub(crate) trait GrantDesk: Send + Sync {
    fn grant(&self, subscription: SubscriptionId, bytes: u64);
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
                held_bytes: AtomicU64::new(0),
                to_grant: AtomicU64::new(0),
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

    /// The requests for a new connection. Deliveries the program still holds count against the credit.
    pub(crate) fn subscribes(&self) -> Vec<(CorrelationId, Message)> {
        self.by_id
            .values()
            .filter(|(subscription, _)| !subscription.has_ended())
            .map(|(subscription, account)| {
                // The subscription's number serves as the correlation, so that a refusal finds it.
                let correlation = CorrelationId(subscription.id().0);
                (correlation, subscription.subscribe(account.begin()))
            })
            .collect()
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
    /// Bytes of deliveries that exist.
    held_bytes: AtomicU64,
    /// Bytes given back and not granted again yet.
    to_grant: AtomicU64,
    desk: Arc<dyn GrantDesk>,
}

impl Account {
    /// The credit to begin a connection with.
    fn begin(&self) -> u64 {
        self.to_grant.store(0, Ordering::SeqCst);
        self.credit_bytes
            .saturating_sub(self.held_bytes.load(Ordering::SeqCst))
    }
}

impl CreditAccount for Account {
    fn hold(&self, bytes: u64) {
        self.held_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn give_back(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::SeqCst);
        let to_grant = self.to_grant.fetch_add(bytes, Ordering::SeqCst) + bytes;
        // A frame for each quarter of the window is seldom enough to be cheap and soon enough not to stall.
        if to_grant >= (self.credit_bytes / 4).max(1) {
            let bytes = self.to_grant.swap(0, Ordering::SeqCst);
            if bytes > 0 {
                self.desk.grant(self.subscription, bytes);
            }
        }
    }
}
