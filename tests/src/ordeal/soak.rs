//! Minutes at half of what a broker can take, with retention at work and consumers coming and going: what grows shows.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gannet_engine::io::sim::Random;
use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::options::Rate;
use gannet_loadgen::usage::ProcessUsage;
use gannet_wire::ErrorCode;
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions};
use gannet_wire::frame::{Start, TopicSettings};

use super::StopsWhenDropped;
use super::measure::measure;
use crate::contents::connect;
use crate::disk_activity::{DiskActivity, DiskCounters};
use crate::program::data_dir;
use crate::server::Server;

const TOPIC: &str = "soak";
const PARTITIONS: u32 = 2;
/// What is kept of each partition: soon reached, so that retention is at work nearly all the time.
const RETENTION_BYTES: u64 = 128 << 20;
const SEGMENT_BYTES: u64 = 32 << 20;
const UNFLUSHED_BYTES: u64 = 128 << 20;
const JOURNAL_FILE_BYTES: u64 = 32 << 20;
/// The journal is said to take twice what may be unflushed; a file more is being prepared.
const JOURNAL_BYTES_MAX: u64 = 2 * UNFLUSHED_BYTES + 2 * JOURNAL_FILE_BYTES;
/// Of each partition: what is kept, the segment that is written to with what is reserved ahead in it, the one that is about to go, and what came since retention
/// looked last.
const SEGMENTS_BYTES_MAX: u64 =
    PARTITIONS as u64 * (RETENTION_BYTES + 3 * SEGMENT_BYTES) + UNFLUSHED_BYTES;
/// How long one part of the time takes, which is measured by itself.
const PART: Duration = Duration::from_secs(30);
const SAMPLE: Duration = Duration::from_secs(1);

/// A soak.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// How long the broker is saturated, with the same consumers coming and going; what it took in the second half counts. A disk that is throttled takes more in its
    /// first seconds than it ever does again, so that half of a moment's rate may be all of what it bears for minutes.
    pub saturated: Duration,
    /// How long it is under load then.
    pub duration: Duration,
}

/// What a soak came to.
#[derive(Clone, Debug)]
pub struct SoakReport {
    /// Records a second that saturated it; half of them were sent.
    pub saturated_records_per_s: f64,
    /// One part of the time after the other.
    pub parts: Vec<SoakPart>,
    /// How the resident memory grew over the second half of the time.
    pub memory_bytes_per_minute: f64,
    /// The most resident memory.
    pub memory_bytes_max: u64,
    /// The most that the journals took on the disk.
    pub journal_bytes_max: u64,
    /// The most that the segments took on the disk.
    pub segment_bytes_max: u64,
    /// Consumers that came and went.
    pub visits: u64,
}

/// What one part of the time came to.
#[derive(Clone, Debug)]
pub struct SoakPart {
    /// What publishers saw.
    pub publish_us: LatencySummary,
    /// What consumers saw.
    pub end_to_end_us: LatencySummary,
    /// What the disk did meanwhile, for whomever. `None` where the kernel does not count it.
    pub disk: Option<DiskActivity>,
}

/// What the broker holds at one moment, and what the disk has done until then.
#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    memory_bytes: u64,
    journal_bytes: u64,
    segment_bytes: u64,
    disk: Option<DiskCounters>,
}

impl SoakReport {
    /// The median of a figure over the parts of the first third of the time, and of the last. Single parts have a machine's moods in them.
    #[must_use]
    pub fn first_and_last_third(&self, figure: impl Fn(&SoakPart) -> f64) -> [f64; 2] {
        let third = self.parts.len().div_ceil(3);
        let last = self.parts.len() - third;
        [0..third, last..self.parts.len()].map(|range| {
            let mut figures: Vec<f64> = self
                .parts
                .get(range)
                .unwrap_or_default()
                .iter()
                .map(&figure)
                .collect();
            figures.sort_by(f64::total_cmp);
            let middle = |at: usize| figures.get(at).copied().unwrap_or_default();
            f64::midpoint(
                middle(figures.len().saturating_sub(1) / 2),
                middle(figures.len() / 2),
            )
        })
    }

    /// What is beyond its bound: a sentence each.
    #[must_use]
    pub fn beyond(&self) -> Vec<String> {
        [
            ("journals", self.journal_bytes_max, JOURNAL_BYTES_MAX),
            ("segments", self.segment_bytes_max, SEGMENTS_BYTES_MAX),
        ]
        .into_iter()
        .filter(|(_, bytes, max)| bytes > max)
        .map(|(what, bytes, max)| format!("the {what} took {bytes} bytes, beyond {max}"))
        .collect()
    }
}

impl Soak {
    /// Consumers that are there at any time, each until it goes and the next one comes.
    pub const COMERS: u64 = 3;
    /// A consumer has gone by itself after this time.
    pub const STAY_MAX: Duration = Duration::from_secs(4);

    /// Makes the run.
    ///
    /// # Panics
    /// When the broker does not serve, or a record is lost, doubled, reordered or changed.
    #[must_use]
    pub fn run(&self) -> SoakReport {
        let dir = data_dir();
        let settings = [
            format!("storage.segment_bytes_max={SEGMENT_BYTES}"),
            format!("storage.unflushed_bytes_max={UNFLUSHED_BYTES}"),
            format!("journal.file_bytes={JOURNAL_FILE_BYTES}"),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let server = Server::start_with(dir.path(), 1, &settings);
        let address = server.address();
        let topic = TopicSettings {
            retention_bytes: Some(RETENTION_BYTES),
            ..TopicSettings::default()
        };
        connect(address)
            .create_topic(TOPIC, PARTITIONS, &topic)
            .expect("new");
        let saturated = among_comers(address, || {
            measure(address, TOPIC, Rate::Max, &[self.saturated / 2; 2])
        });
        let saturated_records_per_s = saturated
            .0
            .last()
            .map_or(0.0, |phase| phase.publish.flow.records_per_s);
        let rate = Rate::PerSecond((saturated_records_per_s / 2.0).max(1.0) as u64);
        let parts = (self.duration.as_secs() / PART.as_secs()).max(2) as u32;
        let part = self.duration / parts;

        let stop = AtomicBool::new(false);
        let ((measured, visits), samples) = std::thread::scope(|scope| {
            let sampler = scope.spawn(|| samples(server.pid(), dir.path(), &stop));
            let measured = among_comers(address, || {
                // Else the sampler would never end.
                let _stops = StopsWhenDropped(&stop);
                measure(address, TOPIC, rate, &vec![part; parts as usize])
            });
            (measured, joined(sampler))
        });
        assert!(server.stop().success(), "it does not stop cleanly");
        let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or_default();
        SoakReport {
            saturated_records_per_s,
            parts: measured
                .into_iter()
                .zip(0..)
                .map(|(phase, at)| SoakPart {
                    publish_us: phase.publish.latency_us,
                    end_to_end_us: phase.end_to_end.latency_us,
                    disk: disk_between(&samples, part * at, part * (at + 1)),
                })
                .collect(),
            memory_bytes_per_minute: slope_per_minute(
                samples.get(samples.len() / 2..).unwrap_or_default(),
            ),
            memory_bytes_max: most(|sample| sample.memory_bytes),
            journal_bytes_max: most(|sample| sample.journal_bytes),
            segment_bytes_max: most(|sample| sample.segment_bytes),
            visits,
        }
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does `work` while consumers come and go; returns what came of it and how many there were.
fn among_comers<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (T, u64) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let comers: Vec<_> = (0..Soak::COMERS)
            .map(|seed| scope.spawn(move || come_and_go(address, seed, stop)))
            .collect();
        let done = {
            let _stops = StopsWhenDropped(stop);
            work()
        };
        (done, comers.into_iter().map(joined).sum())
    })
}

/// What the disk did from the first to the last sample of that time.
fn disk_between(samples: &[Sample], from: Duration, to: Duration) -> Option<DiskActivity> {
    let mut within = samples
        .iter()
        .filter(|sample| (from..=to).contains(&sample.at));
    let first = within.next()?;
    let last = within.next_back()?;
    Some(
        last.disk?
            .since(&first.disk?, last.at.saturating_sub(first.at)),
    )
}

fn samples(pid: u32, data_dir: &Path, stop: &AtomicBool) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let usage = ProcessUsage::of(pid).expect("the broker runs");
        let of = |extension: &str| allocated_bytes(data_dir, extension);
        samples.push(Sample {
            at: began.elapsed(),
            memory_bytes: usage.rss_bytes,
            journal_bytes: of("gnj"),
            segment_bytes: of("seg"),
            disk: DiskCounters::of(data_dir),
        });
        std::thread::sleep(SAMPLE);
    }
    samples
}

/// What the files with that extension take on the disk. Those that go meanwhile take nothing.
fn allocated_bytes(dir: &Path, extension: &str) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated_bytes(&entry.path(), extension),
            Ok(metadata) if entry.path().extension().is_some_and(|of| of == extension) => {
                metadata.blocks() * 512
            }
            _ => 0,
        })
        .sum()
}

/// The straight line that is nearest to the memory over time.
fn slope_per_minute(samples: &[Sample]) -> f64 {
    let minutes = |sample: &Sample| sample.at.as_secs_f64() / 60.0;
    let count = samples.len().max(1) as f64;
    let mean_at = samples.iter().map(minutes).sum::<f64>() / count;
    let mean = samples
        .iter()
        .map(|sample| sample.memory_bytes as f64)
        .sum::<f64>()
        / count;
    let (mut along, mut spread) = (0.0, 0.0);
    for sample in samples {
        let at = minutes(sample) - mean_at;
        along += at * (sample.memory_bytes as f64 - mean);
        spread += at * at;
    }
    if spread > 0.0 { along / spread } else { 0.0 }
}

/// Consumers that begin at the oldest or at the newest record, read for a while and go; returns how many there were.
fn come_and_go(address: SocketAddr, seed: u64, stop: &AtomicBool) -> u64 {
    let mut random = Random::new(seed);
    let mut visits = 0;
    while !stop.load(Ordering::Relaxed) {
        let start = if random.chance(1, 2) {
            Start::Earliest
        } else {
            Start::Latest
        };
        let stay = Duration::from_millis(random.between(100, Soak::STAY_MAX.as_millis() as u64));
        let client = connect(address);
        let mut consumer = client
            .consumer(TOPIC, Partitions::All, start, ConsumerConfig::default())
            .expect("the topic exists");
        let began = Instant::now();
        while began.elapsed() < stay && !stop.load(Ordering::Relaxed) {
            match consumer.next(Duration::from_millis(50)) {
                Ok(_) => {}
                // Retention has overtaken one that began at the oldest record.
                Err(ClientError::SubscriptionEnded { error, .. })
                    if error.code == ErrorCode::OffsetOutOfRange => {}
                Err(ClientError::Closed) => break,
                Err(error) => panic!("a consumer that came: {error}"),
            }
        }
        visits += 1;
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_a_mebibyte_a_second_grows_sixty_a_minute() {
        let samples: Vec<Sample> = (0..20u64)
            .map(|second| Sample {
                at: Duration::from_secs(second),
                memory_bytes: (100 + second) << 20,
                journal_bytes: 0,
                segment_bytes: 0,
                disk: None,
            })
            .collect();
        let slope = slope_per_minute(&samples) / f64::from(1 << 20);
        assert!((slope - 60.0).abs() < 0.001, "{slope}");
        assert!(slope_per_minute(&samples[..1]).abs() < 0.001);
    }
}
