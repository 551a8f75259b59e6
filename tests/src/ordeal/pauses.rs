//! The broker killed by `kill -9`, stopped for a while by SIGSTOP, or killed while it stands still, again and again under load.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use gannet_engine::io::sim::Random;
use gannet_wire::frame::Durability;

use super::trial::Trial;
use crate::program::data_dir;
use crate::server::{Server, serve};

/// The files are small, so that each life rotates journals and seals segments.
const SETTINGS: [&str; 4] = [
    "journal.file_bytes=8MiB",
    "storage.segment_bytes_max=4MiB",
    "storage.unflushed_bytes_max=16MiB",
    "storage.flush_interval_ms=100",
];
/// Records acknowledged between two blows, so that each comes under load.
const RECORDS_A_LIFE: u64 = 300;
/// How long it is left alone beyond that at most.
const LIFE_MAX: Duration = Duration::from_millis(600);
/// How long a broker stands still before it is killed, so that its clients' bytes wait in the sockets.
const BEFORE_KILL: Duration = Duration::from_millis(50);

/// A run of kills and pauses.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// How often the broker is killed, stopped, or both, in turn.
    pub rounds: u32,
    /// How long it stands still.
    pub pause: Duration,
    /// Decides sizes and moments as far as a real machine lets it.
    pub seed: u64,
}

/// What a run came to. That it came to an end says that nothing was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct PausesReport {
    /// Kills.
    pub kills: u32,
    /// Times it stood still.
    pub pauses: u32,
    /// Records acknowledged.
    pub acked: u64,
    /// Records delivered, to all consumers.
    pub delivered: u64,
}

impl Pauses {
    /// Makes the run; tells `progress` of every round.
    ///
    /// # Panics
    /// When the broker does not keep what it promised.
    #[must_use]
    pub fn run(&self, mut progress: impl FnMut(&PausesReport)) -> PausesReport {
        let dir = KeptOnFailure(data_dir());
        // After a pause all clients must have given their connections up: they are silent for three heartbeats then.
        let heartbeat = self.pause / 4;
        let heartbeat = format!("network.heartbeat_ms={}", heartbeat.as_millis().max(100));
        let start = |listen: Option<SocketAddr>| {
            let mut command = serve(dir.0.path(), 2);
            for setting in SETTINGS.into_iter().chain([&*heartbeat]) {
                command.args(["--set", setting]);
            }
            if let Some(address) = listen {
                command.env("GANNET_LISTEN", address.to_string());
            }
            Server::run(command)
        };
        let mut random = Random::new(self.seed);
        let mut report = PausesReport::default();
        let mut server = start(None);
        let address = server.address();
        let mut trial = Trial::start(address, Durability::Durable, self.seed);
        for round in 1..=self.rounds {
            trial.load().until_acked(RECORDS_A_LIFE);
            std::thread::sleep(random_moment(&mut random));
            let (pause, kills) = match round % 3 {
                1 => (None, true),
                2 => (Some(self.pause), false),
                _ => (Some(BEFORE_KILL), true),
            };
            if let Some(pause) = pause {
                report.pauses += 1;
                server.pause();
                std::thread::sleep(pause);
            }
            // Nothing is acknowledged meanwhile, but what lay in the sockets may still be read.
            let history = trial.load().history();
            if kills {
                report.kills += 1;
                server.kill();
                server = start(Some(address));
            } else {
                server.resume();
            }
            trial.judge(&history, &format!("seed {}, round {round}", self.seed));
            progress(&report);
        }
        let totals = trial.finish();
        assert!(server.stop().success(), "it does not stop cleanly");
        PausesReport {
            acked: totals.acked,
            delivered: totals.delivered,
            ..report
        }
    }
}

/// A directory that stays for who looks for the cause.
struct KeptOnFailure(tempfile::TempDir);

impl Drop for KeptOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            // Without a stderr there is nobody to tell.
            let _ = writeln!(
                std::io::stderr(),
                "the data stays in {}",
                self.0.path().display()
            );
        }
    }
}

fn random_moment(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(LIFE_MAX.as_micros() as u64))
}
