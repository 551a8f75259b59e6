//! Reads partitions as their records become durable.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::tokio::sync::Notify;
use ::tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use ::tokio::task::JoinSet;
use ::tokio::time::sleep;
use bytes::BytesMut;

use super::Client;
use super::wire::Link;
use crate::client::config::{Backoff, ClientConfig, ConsumerConfig};
use crate::client::damage::Damage;
use crate::client::error::ClientError;
use crate::client::hub::locked;
use crate::client::subscription::Delivery;
use crate::client::subscriptions::{GrantDesk, Grants, Subscriptions};
use crate::frame::{Frame, Start, TopicDescription};
use crate::ids::{PartitionIndex, ShardIndex, SubscriptionId};

/// Reads partitions of one topic, with a task for each shard that owns one of them. After a lost connection it
/// subscribes again behind the last record delivered: nothing is lost and nothing comes twice.
#[derive(Debug)]
pub struct Consumer {
    arrivals: UnboundedReceiver<Arrival>,
    /// Dropped, they end.
    _readers: JoinSet<()>,
}

type Arrival = Result<Delivery, ClientError>;

impl Consumer {
    pub(super) async fn open(
        client: &Client,
        topic: &TopicDescription,
        starts: &[(PartitionIndex, Start)],
        config: ConsumerConfig,
    ) -> Result<Self, ClientError> {
        let credit_bytes = config.credit_bytes_each(starts.len());
        let by_shard = Subscriptions::by_shard(topic, starts, credit_bytes, Arc::<Desk>::default)?;
        // Bounded by the credit: at most so many bytes of deliveries exist.
        let (sender, arrivals) = unbounded_channel();
        let mut opened = Vec::new();
        for (shard, (subscriptions, desk)) in by_shard {
            let mut reader = ShardReader {
                addresses: client.inner.addresses.clone(),
                config: client.inner.config.clone(),
                shard,
                desk,
                subscriptions,
                damage: Damage::new(&client.inner.config.reconnect),
                sender: sender.clone(),
            };
            let link = reader.connect().await?;
            opened.push((reader, link));
        }
        let deadline = Instant::now() + client.inner.config.request_timeout;
        let mut readers = JoinSet::new();
        for (mut reader, mut link) in opened {
            reader.begin(&mut link, deadline).await?;
            readers.spawn(reader.run(link));
        }
        Ok(Self {
            arrivals,
            _readers: readers,
        })
    }

    /// The next batch of any partition, in each partition's order. May be dropped without loss, so a timeout can be put
    /// around it.
    ///
    /// # Errors
    /// [`ClientError::SubscriptionEnded`] for a partition of which no more will come: the others go on.
    /// [`ClientError::GaveUp`] when there is no connection for as long as the configuration says, though it is tried
    /// further. [`ClientError::Closed`] when all subscriptions have ended.
    pub async fn next(&mut self) -> Result<Delivery, ClientError> {
        self.arrivals
            .recv()
            .await
            .unwrap_or(Err(ClientError::Closed))
    }
}

struct ShardReader {
    addresses: Vec<SocketAddr>,
    config: ClientConfig,
    shard: ShardIndex,
    desk: Arc<Desk>,
    subscriptions: Subscriptions,
    damage: Damage,
    sender: UnboundedSender<Arrival>,
}

impl ShardReader {
    async fn connect(&mut self) -> Result<Link, ClientError> {
        let mut link = Link::open(&self.addresses, &self.config, Some(self.shard)).await?;
        for (correlation, subscribe) in self.subscriptions.subscribes() {
            link.send(correlation, &subscribe).await?;
        }
        Ok(link)
    }

    /// Waits until the broker has said of each subscription where it begins. Only from then on does "latest" have a meaning.
    async fn begin(&mut self, link: &mut Link, deadline: Instant) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        while !self.subscriptions.have_begun() {
            if let Some(frame) = link.poll(&mut out)? {
                // Nobody can have dropped the consumer yet.
                if let Some(Err(failure)) = self.hand_on(frame) {
                    return Err(failure);
                }
                continue;
            }
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut("waiting for a subscription to begin"));
            }
            link.write(&out.split()).await?;
            link.read(Some(deadline)).await?;
        }
        // IMPORTANT: what came behind that is left to `run`. A batch that is damaged is for the program to hear of, and no reason to have no consumer.
        link.write(&out).await
    }

    /// Hands on what a frame brings; `None` when nobody wants it any more.
    fn hand_on(&mut self, frame: Frame) -> Option<Result<(), ClientError>> {
        let handled = self.subscriptions.handle_frame(frame);
        while let Some(delivery) = self.subscriptions.poll() {
            self.damage
                .handle_delivery(delivery.partition, delivery.position());
            self.sender.send(Ok(delivery)).ok()?;
        }
        match handled {
            Err(ended @ ClientError::SubscriptionEnded { .. }) => {
                self.sender.send(Err(ended)).ok()?;
                Some(Ok(()))
            }
            other => Some(other),
        }
    }

    async fn run(mut self, link: Link) {
        let mut link = Some(link);
        let mut backoff = Backoff::new(&self.config.reconnect);
        let mut lost_at = None;
        loop {
            let connected = match link.take() {
                Some(link) => Ok(link),
                None => self.connect().await,
            };
            let failure = match connected {
                Ok(link) => self.read(link, &mut backoff, &mut lost_at).await,
                Err(failure) => Some(failure),
            };
            let Some(failure) = failure else { return };
            let mut pause = backoff.next_pause();
            let mut is_news = !failure.is_of_connection();
            if let ClientError::BatchDamaged {
                partition,
                position,
                ..
            } = &failure
            {
                is_news = self.damage.note(*partition, *position);
                pause = self.damage.next_pause();
            }
            if is_news && self.sender.send(Err(failure.clone())).is_err() {
                return;
            }
            let now = Instant::now();
            let after: Duration = now - *lost_at.get_or_insert(now);
            if after >= self.config.reconnect.give_up_after {
                lost_at = None;
                let given_up = ClientError::GaveUp {
                    after,
                    cause: Box::new(failure),
                };
                if self.sender.send(Err(given_up)).is_err() {
                    return;
                }
            }
            sleep(pause).await;
        }
    }

    /// Reads until the connection ends; `None` when nobody wants more or no more will come.
    async fn read(
        &mut self,
        mut link: Link,
        backoff: &mut Backoff,
        lost_at: &mut Option<Instant>,
    ) -> Option<ClientError> {
        let mut out = BytesMut::new();
        loop {
            loop {
                match link.poll(&mut out) {
                    Ok(Some(frame)) => {
                        // It serves: the outage is over.
                        *lost_at = None;
                        *backoff = Backoff::new(&self.config.reconnect);
                        if let Err(failure) = self.hand_on(frame)? {
                            return Some(failure);
                        }
                    }
                    Ok(None) => break,
                    Err(failure) => return Some(failure),
                }
            }
            if self.subscriptions.have_ended() {
                return None;
            }
            out.unsplit(self.desk.take_frames());
            if let Err(failure) = link.write(&out.split()).await {
                return Some(failure);
            }
            ::tokio::select! {
                read = link.read(None) => {
                    if let Err(failure) = read {
                        return Some(failure);
                    }
                }
                () = self.desk.rung.notified() => {}
            }
        }
    }
}

/// Credit that waits for the task that writes.
#[derive(Default)]
struct Desk {
    grants: Mutex<Grants>,
    rung: Notify,
}

impl Desk {
    fn take_frames(&self) -> BytesMut {
        locked(&self.grants).take_frames()
    }
}

impl GrantDesk for Desk {
    fn keep(&self, subscription: SubscriptionId, bytes: u64) {
        locked(&self.grants).keep(subscription, bytes);
    }

    fn forget(&self, subscription: SubscriptionId) {
        locked(&self.grants).forget(subscription);
    }

    fn send(&self) {
        self.rung.notify_one();
    }
}
