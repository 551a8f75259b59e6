//! The simulated world: the product's own storage and shard code on a simulated disk, clock and executor, with clients that do everything at
//! once, a power cut at any step, and a model that knows what must be true afterwards.
//!
//! One seed decides all of it: how the broker is tuned, what the clients send, in which order tasks run, when the power goes and what it
//! leaves. The same seed and the same program give the same run.
//!
//! **What it cannot produce:** anything of connections, frames and credit (the clients call the log), threads and mail between shards (all
//! shards run on one thread and are told of topics directly), clocks that run at another speed, wall clocks that are off for longer than an hour,
//! time enough for producers to expire or for a segment to be sealed by its age, batches with keys, headers or compression, two kinds of
//! faults in one run, writes that go astray into another file or into a journal behind its header (every sector, in
//! [`bits`](crate::bits), has those), and whatever the simulated disk cannot ([`gannet_engine::io::sim`]).

mod append_clock;
pub(crate) mod batches;
pub(crate) mod broker;
mod check;
mod clients;
mod damages;
pub(crate) mod disk;
mod faults;
mod life;
mod limits;
mod model;
mod shared;
mod summary;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use disk::Canary;
use life::World;
pub use summary::Summary;

/// What goes wrong besides crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    None,
    /// Operations of the disk fail: reads, writes, syncs, opens.
    Errors,
    /// The disk has no room for a while.
    Full,
    /// What is durable changes behind the broker's back: bits, unreadable sectors, writes that were lost or went elsewhere.
    Rot,
    /// Syncs claim success and do nothing. The promise does not hold then; a wrong record or a panic would be a bug all the same.
    Lies,
}

impl Faults {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Errors, Self::Full, Self::Rot, Self::Lies];

    /// What a seed runs with when nobody says: each kind in turn, crashes alone most often.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        match seed % 8 {
            4 => Self::Errors,
            5 => Self::Full,
            6 => Self::Rot,
            7 => Self::Lies,
            _ => Self::None,
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Decides everything.
    pub seed: u64,
    /// What goes wrong besides crashes.
    pub faults: Faults,
    /// A bug to be found.
    pub canary: Option<Canary>,
}

/// A run that showed a bug.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The run that shows it.
    pub run: Run,
    /// What was wrong.
    pub what: String,
    /// What happened until then.
    pub steps: Vec<String>,
}

impl Run {
    /// The run of a seed, with the faults that are its turn.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::of_seed(seed),
            canary: None,
        }
    }

    /// Runs it; a run that finds something is run once more, to tell the steps that lead there.
    ///
    /// # Errors
    /// What was wrong.
    pub fn go(self) -> Result<Summary, Box<Finding>> {
        match self.once(false) {
            (Ok(summary), _) => Ok(summary),
            (Err(what), _) => {
                let (again, steps) = self.once(true);
                let what = match again {
                    Err(same) if same == what => what,
                    other => format!("{what}; run again it ended otherwise: {other:?}"),
                };
                Err(Box::new(Finding {
                    run: self,
                    what,
                    steps,
                }))
            }
        }
    }

    fn once(self, traced: bool) -> (Result<Summary, String>, Vec<String>) {
        let world = World::new(self, traced);
        let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", what.unwrap_or("no message")))
        });
        let steps = world.take_steps();
        if result.is_err() {
            // After a panic its tasks are in no state to be dropped.
            std::mem::forget(world);
        }
        (result, steps)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        write!(
            f,
            "seed {} with faults {:?} and canary {:?}: {}",
            self.run.seed, self.run.faults, self.run.canary, self.what
        )
    }
}
