//! Several producers and consumers over one topic, and the [`History`] they make of it: what was sent, acknowledged and delivered, to be compared with what a
//! broker holds after whatever was done to it.
//!
//! The clients outlive the broker: they find the next process at its address and send again what was not acknowledged, so that a record stored twice shows as well
//! as a lost one.

mod consumer;
mod history;
mod producer;
mod stored;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gannet_loadgen::verify::Filler;
use gannet_wire::frame::{Durability, TopicSettings};

use crate::contents::connect;

pub use history::{Findings, History};
pub use stored::{Identity, Stored};

/// Who does what to which topic.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The topic; it is made.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Producers, each with connections of its own, each sending to every partition.
    pub producers: u32,
    /// Consumers, each with connections of its own, each reading every partition.
    pub consumers: u32,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Decides the sizes of records and of what is sent at once.
    pub seed: u64,
}

/// A load that is under way.
pub struct Load {
    plan: LoadPlan,
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

/// What the threads of a load share.
struct Shared {
    filler: Filler,
    history: Mutex<History>,
    acked_records: AtomicU64,
    delivered_records: AtomicU64,
    producers_stop: AtomicBool,
    consumers_stop: AtomicBool,
}

impl Shared {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Makes the topic and begins.
    ///
    /// # Panics
    /// When no broker serves there, or it has such a topic.
    #[must_use]
    pub fn start(address: SocketAddr, plan: LoadPlan) -> Self {
        let settings = TopicSettings {
            durability: plan.durability,
            ..TopicSettings::default()
        };
        connect(address)
            .create_topic(&plan.topic, plan.partitions, &settings)
            .expect("the topic is new");
        let shared = Arc::new(Shared {
            filler: Filler::new(plan.seed, producer::RECORD_BYTES_MAX),
            history: Mutex::new(History::new(&plan)),
            acked_records: AtomicU64::new(0),
            delivered_records: AtomicU64::new(0),
            producers_stop: AtomicBool::new(false),
            consumers_stop: AtomicBool::new(false),
        });
        let producers = (0..plan.producers)
            .map(|number| {
                let (shared, plan, client) = (shared.clone(), plan.clone(), connect(address));
                std::thread::spawn(move || producer::produce(&shared, &plan, number, &client))
            })
            .collect();
        let consumers = (0..plan.consumers)
            .map(|number| {
                let (shared, plan, client) = (shared.clone(), plan.clone(), connect(address));
                std::thread::spawn(move || consumer::consume(&shared, &plan, number, &client))
            })
            .collect();
        Self {
            plan,
            shared,
            producers,
            consumers,
        }
    }

    /// Waits until so many records more are acknowledged.
    ///
    /// # Panics
    /// When they are not.
    pub fn until_acked(&self, records: u64) {
        let acked = &self.shared.acked_records;
        let goal = acked.load(Ordering::Relaxed) + records;
        wait_until("records are acknowledged", || {
            acked.load(Ordering::Relaxed) >= goal
        });
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.shared.history().clone()
    }

    /// What the topic holds now.
    ///
    /// # Panics
    /// When it cannot be read, or holds what was never sent.
    #[must_use]
    pub fn stored(&self, address: SocketAddr) -> Stored {
        Stored::read(
            &connect(address),
            &self.plan.topic,
            self.plan.partitions,
            &self.shared.filler,
        )
    }

    /// Ends the producers, once everything they sent is answered, and the consumers, once they have got everything that is stored. Returns the whole history and what
    /// the topic holds in the end.
    ///
    /// # Panics
    /// When the broker does not serve all of them.
    #[must_use]
    pub fn finish(mut self, address: SocketAddr) -> (History, Stored) {
        self.shared.producers_stop.store(true, Ordering::Relaxed);
        self.producers.drain(..).for_each(join);
        let goal = self.stored(address).records() * u64::from(self.plan.consumers);
        wait_until("every consumer gets everything", || {
            self.shared.delivered_records.load(Ordering::Relaxed) >= goal
        });
        self.shared.consumers_stop.store(true, Ordering::Relaxed);
        self.consumers.drain(..).for_each(join);
        // What was only accepted may have become durable, and been delivered, meanwhile: it is read last.
        (self.history(), self.stored(address))
    }
}

impl Drop for Load {
    /// A load that was given up tries no further.
    fn drop(&mut self) {
        self.shared.producers_stop.store(true, Ordering::Relaxed);
        self.shared.consumers_stop.store(true, Ordering::Relaxed);
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
