//! The power taken away under load, again and again.
//!
//! Files lie on an ext4 of the run's own, which the broker writes to by io_uring. A cut is EXT4_IOC_SHUTDOWN: what the file system had not made durable is gone and
//! every later write and sync fails. What it cannot produce is a disk that loses what it had in a cache of its own; that is the simulated world's.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gannet_engine::io::sim::Random;
use gannet_wire::frame::Durability;

use super::clerk::{Clerk, ClerkTotals};
use super::trial::Trial;
use crate::loop_disk::LoopDisk;
use crate::program::wait;
use crate::server::Server;

/// The files are small, so that each life rotates journals and seals segments.
const SETTINGS: [&str; 6] = [
    "storage.disk_reserve_bytes=16MiB",
    "journal.file_bytes=8MiB",
    "storage.segment_bytes_max=4MiB",
    "storage.unflushed_bytes_max=16MiB",
    "storage.flush_interval_ms=100",
    "topics.retention_bytes=-1",
];
/// The disk's file is sparse.
const DISK_MEBIBYTES: u64 = 2048;
/// Records acknowledged in a life before the power may go, so that each is under load.
const RECORDS_A_LIFE: u64 = 300;
/// How long a life lasts beyond that at most.
const LIFE_MAX: Duration = Duration::from_millis(600);
/// One cut in so many is followed by another while the broker starts.
const CUTS_AT_START: u64 = 3;
/// How far a start may be when the power goes.
const START_MAX: Duration = Duration::from_millis(80);
/// A write or a sync failed while serving.
const STORAGE_FAILED: i32 = 30;
/// The machine did not let it start.
const ENVIRONMENT: i32 = 3;

/// A run of power cuts.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// How many under load.
    pub cuts: u32,
    /// What the acknowledgements mean that must hold.
    pub durability: Durability,
    /// Decides sizes and moments as far as a real machine lets it.
    pub seed: u64,
}

/// What a run came to. That it came to an end says that nothing was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutsReport {
    /// Cuts under load.
    pub cuts: u32,
    /// Further ones while the broker started.
    pub cuts_at_start: u32,
    /// Records acknowledged.
    pub acked: u64,
    /// Records delivered, to all consumers.
    pub delivered: u64,
    /// Acknowledged records that a cut took away; never any that were durable.
    pub lost: u64,
    /// Cuts that took some.
    pub cuts_with_loss: u32,
    /// What else was acknowledged, and is always durable.
    pub clerk: ClerkTotals,
}

impl Cuts {
    /// Makes the run; tells `progress` of every cut. `None`, said with its reason, where there can be no such disk.
    ///
    /// # Panics
    /// When the broker does not keep what it promised.
    #[must_use]
    pub fn run(&self, mut progress: impl FnMut(&CutsReport)) -> Option<CutsReport> {
        let disk = LoopDisk::new(DISK_MEBIBYTES)?;
        let mut random = Random::new(self.seed);
        let mut report = CutsReport::default();
        let mut server = Server::run(disk.serve(&SETTINGS));
        let address = server.address();
        let mut trial = Trial::start(address, self.durability, self.seed);
        let mut clerk = Clerk::new(address, self.seed);
        for cut in 1..=self.cuts {
            let clerk_at_work = clerk.work();
            trial.load().until_acked(RECORDS_A_LIFE);
            std::thread::sleep(moment(&mut random, LIFE_MAX));
            if !disk.cut_power(server.pid()) {
                return None;
            }
            assert_ended_by_the_cut(&mut server);
            disk.until_unmounted();
            clerk = clerk_at_work.ended();
            let history = trial.load().history();
            if random.chance(1, CUTS_AT_START) {
                report.cuts_at_start += 1;
                if !cut_while_starting(&disk, address, moment(&mut random, START_MAX)) {
                    return None;
                }
            }
            server = Server::run(serve_at(&disk, address));
            let what = format!("seed {}, cut {cut}", self.seed);
            clerk.judge(&what);
            let lost = trial.judge(&history, &what);
            report.cuts = cut;
            report.cuts_with_loss += u32::from(lost > 0);
            report.lost += lost;
            report.clerk = clerk.totals();
            progress(&report);
        }
        let totals = trial.finish();
        assert!(server.stop().success(), "it does not stop cleanly");
        Some(CutsReport {
            acked: totals.acked,
            delivered: totals.delivered,
            ..report
        })
    }
}

fn serve_at(disk: &LoopDisk, address: SocketAddr) -> Command {
    let mut command = disk.serve(&SETTINGS);
    command.env("GANNET_LISTEN", address.to_string());
    command
}

/// A failed write is final: the broker says so in a sentence and by its status, and by itself.
fn assert_ended_by_the_cut(server: &mut Server) {
    server.expect_error("storage failed");
    let ended = server.ended();
    assert_eq!(ended.code(), Some(STORAGE_FAILED), "{:#?}", server.log());
    let sentences = server.log_with("storage failed and the broker has stopped");
    assert!(!sentences.is_empty(), "no sentence: {:#?}", server.log());
}

/// A second cut before the broker has recovered from the first. `false` where that cannot be done.
fn cut_while_starting(disk: &LoopDisk, address: SocketAddr, after: Duration) -> bool {
    let mut child = serve_at(disk, address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gannet can be started");
    until_mounted(disk, &mut child);
    std::thread::sleep(after);
    let cut = disk.cut_power(child.id());
    let said = child.stderr.take().map(std::io::read_to_string);
    let said = said.and_then(Result::ok).unwrap_or_default();
    let ended = wait(&mut child);
    assert!(
        [Some(STORAGE_FAILED), Some(ENVIRONMENT)].contains(&ended.code()),
        "{ended}: {said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    disk.until_unmounted();
    cut
}

fn until_mounted(disk: &LoopDisk, child: &mut Child) {
    let deadline = Instant::now() + MOUNTED_MAX;
    // Every life before this one has left a data directory.
    while !disk.root_of(child.id()).join("data").exists() {
        assert!(Instant::now() < deadline, "the disk is not mounted");
        assert!(
            child.try_wait().is_ok_and(|ended| ended.is_none()),
            "it did not even start"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

const MOUNTED_MAX: Duration = Duration::from_secs(30);

/// Any time up to `max`.
fn moment(random: &mut Random, max: Duration) -> Duration {
    Duration::from_micros(random.below(max.as_micros() as u64 + 1))
}
