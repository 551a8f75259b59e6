//! Reads partitions as their records become durable.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Client;
use super::desk::Desk;
use super::link::Link;
use crate::client::config::{Backoff, ClientConfig, ConsumerConfig};
use crate::client::damage::Damage;
use crate::client::error::ClientError;
use crate::client::hub::locked;
use crate::client::subscription::Delivery;
use crate::client::subscriptions::Subscriptions;
use crate::frame::{Frame, Start, TopicDescription};
use crate::ids::{Offset, PartitionIndex, ShardIndex};

/// Reads partitions of one topic.
///
/// When all of them belong to one shard, the thread that calls [`next`](Self::next) reads the socket itself; otherwise
/// a thread for each shard does. After a lost connection the consumer subscribes again behind the last record it
/// delivered: nothing is lost and nothing comes twice.
///
/// The server closes the connection of a consumer that reads from one shard when `next` is not called for three
/// heartbeats (see `Client::hello`); the next call then connects again.
pub struct Consumer {
    source: Source,
    positions: HashMap<PartitionIndex, Offset>,
    /// One for each shard.
    obstacles: Vec<Arc<Obstacle>>,
}

/// Why a shard cannot be read at this moment; `None` while it can.
type Obstacle = Mutex<Option<ClientError>>;

enum Source {
    /// Read by the calling thread.
    Shard(Box<ShardReader>),
    /// Read by a thread each.
    Threads {
        arrivals: Receiver<Arrival>,
        closed: Arc<AtomicBool>,
        desks: Vec<Arc<Desk>>,
    },
}

type Arrival = Result<Delivery, ClientError>;

impl Consumer {
    pub(super) fn open(
        client: &Client,
        topic: &TopicDescription,
        starts: &[(PartitionIndex, Start)],
        config: ConsumerConfig,
    ) -> Result<Self, ClientError> {
        let credit_bytes = config.credit_bytes_each(starts.len());
        let by_shard = Subscriptions::by_shard(topic, starts, credit_bytes, Arc::<Desk>::default)?;
        let mut readers: Vec<ShardReader> = by_shard
            .into_iter()
            .map(|(shard, (subscriptions, desk))| ShardReader {
                addresses: client.inner.addresses.clone(),
                config: client.inner.config.clone(),
                shard,
                link: None,
                desk,
                subscriptions,
                endings: VecDeque::new(),
                outage: Outage::new(&client.inner.config),
                damage: Damage::new(&client.inner.config.reconnect),
                obstacle: Arc::default(),
            })
            .collect();
        for reader in &mut readers {
            reader.connect()?;
        }
        let deadline = Instant::now() + client.inner.config.request_timeout;
        for reader in &mut readers {
            reader.begin(deadline)?;
        }
        let obstacles = readers
            .iter()
            .map(|reader| Arc::clone(&reader.obstacle))
            .collect();
        let source = match readers.len() {
            1 => Source::Shard(Box::new(readers.remove(0))),
            _ => Source::spawn(readers)?,
        };
        Ok(Self {
            source,
            positions: HashMap::new(),
            obstacles,
        })
    }

    /// The next batch of any partition, in each partition's order. `None` when there is none within `timeout`, which
    /// the kernel rounds up to some milliseconds.
    ///
    /// # Errors
    /// [`ClientError::SubscriptionEnded`] for a partition of which no more will come: the others go on.
    /// [`ClientError::GaveUp`] when there is no connection for as long as the configuration says: a further call tries
    /// again. [`ClientError::BatchDamaged`]: a further call asks for the batch again.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Delivery>, ClientError> {
        let delivery = match &mut self.source {
            Source::Shard(reader) => reader.next(Instant::now() + timeout, &|| false)?,
            Source::Threads { arrivals, .. } => match arrivals.recv_timeout(timeout) {
                Ok(arrival) => Some(arrival?),
                Err(RecvTimeoutError::Timeout) => None,
                // Every thread has ended because all its subscriptions have.
                Err(RecvTimeoutError::Disconnected) => return Err(ClientError::Closed),
            },
        };
        if let Some(delivery) = &delivery {
            self.positions
                .insert(delivery.partition, delivery.position());
        }
        Ok(delivery)
    }

    /// Why nothing more comes at this moment: what became of the connection to a shard, until the next one serves. `None` while nothing is in the way.
    /// The consumer tries again by itself; who waits can tell why.
    #[must_use]
    pub fn obstacle(&self) -> Option<ClientError> {
        self.obstacles.iter().find_map(|one| locked(one).clone())
    }

    /// The offset behind the last record delivered of each partition that delivered any: what to commit once they are
    /// dealt with.
    #[must_use]
    pub fn positions(&self) -> Vec<(PartitionIndex, Offset)> {
        self.positions
            .iter()
            .map(|(partition, offset)| (*partition, *offset))
            .collect()
    }

    /// Ends the subscriptions by closing the connections; the same as dropping the consumer.
    pub fn close(self) {}
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Source::Threads { closed, desks, .. } = &self.source {
            closed.store(true, Ordering::SeqCst);
            for desk in desks {
                desk.disconnect();
            }
        }
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

impl Source {
    fn spawn(readers: Vec<ShardReader>) -> Result<Self, ClientError> {
        // Bounded by the credit: at most so many bytes of deliveries exist.
        let (sender, arrivals) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let desks = readers
            .iter()
            .map(|reader| Arc::clone(&reader.desk))
            .collect();
        for reader in readers {
            let (sender, closed) = (sender.clone(), Arc::clone(&closed));
            thread::Builder::new()
                .name("gannet-consumer".to_owned())
                .spawn(move || reader.run(&sender, &closed))
                .map_err(|error| ClientError::io("start a thread", &error))?;
        }
        Ok(Self::Threads {
            arrivals,
            closed,
            desks,
        })
    }
}

/// The subscriptions served by one shard, over one connection after another.
struct ShardReader {
    addresses: Vec<SocketAddr>,
    config: ClientConfig,
    shard: ShardIndex,
    link: Option<Link>,
    desk: Arc<Desk>,
    subscriptions: Subscriptions,
    /// Subscriptions that ended, and damage, not told yet.
    endings: VecDeque<ClientError>,
    /// Over all calls: each may be far shorter than an outage.
    outage: Outage,
    damage: Damage,
    obstacle: Arc<Obstacle>,
}

impl ShardReader {
    /// Connects and subscribes. Deliveries still held by the program count against the new credit.
    fn connect(&mut self) -> Result<(), ClientError> {
        let mut link = Link::open(&self.addresses, &self.config, Some(self.shard))?;
        for (correlation, subscribe) in self.subscriptions.subscribes() {
            link.send(correlation, &subscribe)?;
        }
        // What is given back from the first Subscribe on waits until here, since it must not overtake them.
        self.desk.connect(Arc::clone(&link.socket));
        self.link = Some(link);
        Ok(())
    }

    /// Waits until the broker has said of each subscription where it begins. Only from then on does "latest" have a meaning.
    fn begin(&mut self, deadline: Instant) -> Result<(), ClientError> {
        while !self.subscriptions.have_begun() {
            let Some(frame) = self.poll(deadline)? else {
                return Err(ClientError::TimedOut("waiting for a subscription to begin"));
            };
            match self.subscriptions.handle_frame(frame) {
                Err(ended @ ClientError::SubscriptionEnded { .. }) => self.endings.push_back(ended),
                other => other?,
            }
        }
        Ok(())
    }

    fn next(
        &mut self,
        deadline: Instant,
        closed: &dyn Fn() -> bool,
    ) -> Result<Option<Delivery>, ClientError> {
        loop {
            if let Some(delivery) = self.subscriptions.poll() {
                return Ok(Some(delivery));
            }
            // IMPORTANT: only now. What came before an ending or a damage is given before it.
            if let Some(ending) = self.endings.pop_front() {
                return Err(ending);
            }
            if closed() || self.subscriptions.have_ended() {
                return Err(ClientError::Closed);
            }
            match self.poll(deadline) {
                Ok(Some(frame)) => {
                    // It serves: the outage is over.
                    self.outage = Outage::new(&self.config);
                    *locked(&self.obstacle) = None;
                    if let Err(error) = self.subscriptions.handle_frame(frame) {
                        if !matches!(error, ClientError::SubscriptionEnded { .. }) {
                            // What was left of the frame is gone with the connection, and asked for again.
                            self.disconnect();
                        }
                        // Behind what stood before it in the frame.
                        self.endings.push_back(error);
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) if error.is_of_connection() => {
                    self.disconnect();
                    *locked(&self.obstacle) = Some(error.clone());
                    if !self.outage.handle_failure(error, deadline)? {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    self.disconnect();
                    return Err(error);
                }
            }
        }
    }

    fn poll(&mut self, deadline: Instant) -> Result<Option<Frame>, ClientError> {
        if self.link.is_none() {
            self.connect()?;
        }
        match &mut self.link {
            Some(link) => link.poll(deadline),
            None => Ok(None),
        }
    }

    fn disconnect(&mut self) {
        self.desk.disconnect();
        self.link = None;
    }

    /// As a thread of its own.
    fn run(mut self, sender: &Sender<Arrival>, closed: &AtomicBool) {
        let is_closed = || closed.load(Ordering::SeqCst);
        while !is_closed() {
            let arrival = match self.next(Instant::now() + LOOK_EVERY, &is_closed) {
                Ok(None) => continue,
                Ok(Some(delivery)) => Ok(delivery),
                Err(ClientError::Closed) => return,
                Err(error) => Err(error),
            };
            let (is_news, pause) = self.note_arrival(&arrival);
            if is_news && sender.send(arrival).is_err() {
                return;
            }
            thread::sleep(pause);
        }
    }

    /// Whether the program has not heard of it yet, and how long to wait before the next attempt: nobody else slows this thread down.
    fn note_arrival(&mut self, arrival: &Arrival) -> (bool, Duration) {
        match arrival {
            Ok(delivery) => {
                self.damage
                    .handle_delivery(delivery.partition, delivery.position());
                (true, Duration::ZERO)
            }
            Err(ClientError::BatchDamaged {
                partition,
                position,
                ..
            }) => {
                let is_news = self.damage.note(*partition, *position);
                (is_news, self.damage.next_pause())
            }
            Err(ClientError::SubscriptionEnded { .. }) => (true, Duration::ZERO),
            Err(_) => (true, self.outage.backoff.next_pause()),
        }
    }
}

/// How long there has been no connection that serves, and the pauses between attempts.
struct Outage {
    give_up_after: Duration,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Outage {
    fn new(config: &ClientConfig) -> Self {
        let backoff = Backoff::new(&config.reconnect);
        Self {
            give_up_after: config.reconnect.give_up_after,
            since: None,
            backoff,
        }
    }

    /// Pauses before the next attempt; false when the deadline comes first.
    fn handle_failure(
        &mut self,
        error: ClientError,
        deadline: Instant,
    ) -> Result<bool, ClientError> {
        let now = Instant::now();
        let after = now - *self.since.get_or_insert(now);
        if after >= self.give_up_after {
            self.since = None;
            return Err(ClientError::GaveUp {
                after,
                cause: Box::new(error),
            });
        }
        let left = deadline.saturating_duration_since(now);
        thread::sleep(self.backoff.next_pause().min(left));
        Ok(!left.is_zero())
    }
}

/// How often a thread that reads looks whether the consumer was dropped.
const LOOK_EVERY: Duration = Duration::from_secs(1);
