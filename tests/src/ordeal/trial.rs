//! A load on a broker that is taken down again and again, on a new topic from time to time.

use std::net::SocketAddr;

use gannet_wire::frame::Durability;

use crate::contents::connect;
use crate::load::{Findings, History, Load, LoadPlan};

/// How often a broker is taken down before the topic is a new one: each time all of a topic is read.
const BLOWS_A_TOPIC: u32 = 10;
const PARTITIONS: u32 = 4;
const PRODUCERS: u32 = 3;
const CONSUMERS: u32 = 2;

/// What is done to the broker, and judged by what its clients saw.
pub(super) struct Trial {
    durability: Durability,
    seed: u64,
    address: SocketAddr,
    topics: u32,
    blows: u32,
    load: Load,
    /// Of the present topic.
    lost: u64,
    totals: Totals,
}

/// What it came to, over all topics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) acked: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
}

impl Trial {
    /// Begins, on a broker that serves there whenever it serves.
    pub(super) fn start(address: SocketAddr, durability: Durability, seed: u64) -> Self {
        Self {
            durability,
            seed,
            address,
            topics: 0,
            blows: 0,
            load: load(address, durability, seed, 0),
            lost: 0,
            totals: Totals::default(),
        }
    }

    /// The load on the present topic.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Judges a broker that serves again by the history of a moment at which none did; returns how many acknowledged records that blow has taken.
    ///
    /// # Panics
    /// When something is wrong that the durability does not allow.
    pub(super) fn judge(&mut self, history: &History, what: &str) -> u64 {
        let findings = history.findings(&self.load.stored(self.address));
        assert_allowed(&findings, self.durability, what);
        let lost = findings.lost - self.lost;
        self.lost = findings.lost;
        self.totals.lost += lost;
        self.blows += 1;
        if self.blows.is_multiple_of(BLOWS_A_TOPIC) {
            self.topics += 1;
            let next = load(self.address, self.durability, self.seed, self.topics);
            let load = std::mem::replace(&mut self.load, next);
            self.totals.end(load, self.address, self.durability);
            self.lost = 0;
            connect(self.address)
                .delete_topic(&topic(self.topics - 1))
                .expect("it exists");
        }
        lost
    }

    /// Lets everybody finish, and judges a last time.
    ///
    /// # Panics
    /// As [`Trial::judge`].
    pub(super) fn finish(mut self) -> Totals {
        self.totals.end(self.load, self.address, self.durability);
        self.totals
    }
}

impl Totals {
    fn end(&mut self, load: Load, address: SocketAddr, durability: Durability) {
        let (history, stored) = load.finish(address);
        assert_allowed(&history.findings(&stored), durability, "in the end");
        self.acked += history.acked_records();
        self.delivered += history.delivered_records();
    }
}

fn assert_allowed(findings: &Findings, durability: Durability, what: &str) {
    let allowed = match durability {
        Durability::Durable => findings.is_clean(),
        Durability::Accepted => findings.only_what_accepted_allows(),
    };
    assert!(allowed, "{what}: {findings}");
}

fn load(address: SocketAddr, durability: Durability, seed: u64, number: u32) -> Load {
    let plan = LoadPlan {
        topic: topic(number),
        partitions: PARTITIONS,
        producers: PRODUCERS,
        consumers: CONSUMERS,
        durability,
        seed: seed.wrapping_add(u64::from(number)),
    };
    Load::start(address, plan)
}

fn topic(number: u32) -> String {
    format!("ordeal-{number}")
}
