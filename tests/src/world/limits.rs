//! How a simulated broker is tuned: everything small, so that a few hundred publishes rotate journals, seal segments and take snapshots.

use std::time::Duration;

use gannet_engine::io::sim::Random;
use gannet_engine::partition::ProducerLimits;
use gannet_engine::shard::log::LogConfig;

const KIB: u64 = 1 << 10;

/// Batches of one producer and partition in flight.
pub(super) const INFLIGHT_MAX: usize = 4;

/// Draws a configuration whose relations are those that a real one must keep to.
pub(super) fn draw_limits(random: &mut Random) -> LogConfig {
    let journal_file_bytes = pick(random, &[64 * KIB, 128 * KIB, 256 * KIB, 1024 * KIB]);
    // A quarter of a journal file at most, as the configuration demands.
    let commit_bytes_max =
        pick(random, &[16 * KIB, 32 * KIB, 64 * KIB]).min(journal_file_bytes / 4);
    let direct_bytes_min = pick(random, &[8 * KIB, 12 * KIB, 32 * KIB]).min(commit_bytes_max / 2);
    let flush_bytes = pick(random, &[16 * KIB, 64 * KIB, 256 * KIB]);
    LogConfig {
        journal_file_bytes,
        commit_bytes_max: size(commit_bytes_max),
        commits_in_flight_max: size(random.between(1, 6)),
        commit_gather_bytes: size(pick(random, &[1, 4 * KIB, commit_bytes_max / 4])),
        commit_interval: pick(
            random,
            &[
                Duration::ZERO,
                Duration::from_micros(250),
                Duration::from_millis(5),
            ],
        ),
        mark_interval: Duration::from_millis(10),
        unflushed_bytes_max: pick(random, &[256 * KIB, 1024 * KIB]).max(2 * flush_bytes),
        flush_bytes,
        flush_interval: Duration::from_millis(random.between(20, 2_000)),
        flush_round_bytes_max: pick(random, &[16 * KIB, 64 * KIB, 1024 * KIB]),
        own_segment_bytes_min: pick(random, &[4 * KIB, 16 * KIB]).min(direct_bytes_min),
        direct_bytes_min: size(direct_bytes_min),
        direct_chunk_bytes_max: size(direct_bytes_min * random.between(1, 4)),
        directs_in_flight_max: size(random.between(1, 4)),
        segment_bytes_max: pick(random, &[32 * KIB, 128 * KIB, 1024 * KIB]),
        merge_segments_min: size(random.between(2, 4)),
        merge_interval: Duration::from_millis(pick(random, &[1, 50, 1_000])),
        checkpoint_bytes_min: pick(random, &[16 * KIB, 64 * KIB, 4096 * KIB]),
        flush_write_bytes: size(pick(random, &[4 * KIB, 16 * KIB, 64 * KIB])),
        flush_writes_in_flight_max: size(random.between(1, 3)),
        tail_cache_bytes: pick(random, &[0, 16 * KIB, 256 * KIB]),
        read_chunk_bytes: size(pick(random, &[4 * KIB, 16 * KIB, 64 * KIB])),
        read_cache_bytes: size(pick(random, &[8 * KIB, 128 * KIB])),
        open_files_max: size(random.between(1, 6)),
        disk_reserve_bytes: 1024 * KIB,
        trust_wall_clock: false,
        producers: ProducerLimits {
            inflight_max: INFLIGHT_MAX,
            expiry_ms: 24 * 60 * 60 * 1000,
            producers_max: 1_000,
        },
    }
}

/// One of several.
pub(super) fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.index(of.len())]
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a small number")
}
