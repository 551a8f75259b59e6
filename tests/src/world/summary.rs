//! What runs did, and what was done to them: a fault that never strikes shows nothing.

use std::fmt;
use std::ops::AddAssign;

use gannet_engine::io::sim::FaultCounts;

/// What a run did, when nothing was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lives of the broker, those that ended during their start included.
    pub lives: u64,
    /// Starts that a crash cut short.
    pub cut_starts: u64,
    /// Starts with another number of shards than the one before.
    pub moves: u64,
    /// Of those, the ones that a crash cut short.
    pub cut_moves: u64,
    /// Times that a journal file was put to use again.
    pub reused_journal_files: u64,
    /// Acknowledgements of groups' commits.
    pub commits: u64,
    /// Steps of the executor.
    pub steps: u64,
    /// Acknowledgements of durable batches.
    pub acked_batches: u64,
    /// Batches that readers were given.
    pub delivered_batches: u64,
    /// Batches that were recognized as sent before.
    pub duplicates: u64,
    /// Publishes refused because the disk was full.
    pub refused_full: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Times that retention was seen to have moved a log start.
    pub expiries: u64,
    /// Files that the sweeps behind starts removed.
    pub swept_files: u64,
    /// Files that went behind the answer to a deletion.
    pub topic_files: u64,
    /// What the disk did wrong.
    pub faults: FaultCounts,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        let Self {
            lives,
            cut_starts,
            moves,
            cut_moves,
            reused_journal_files,
            commits,
            steps,
            acked_batches,
            delivered_batches,
            duplicates,
            refused_full,
            written_bytes,
            expiries,
            swept_files,
            topic_files,
            faults,
        } = other;
        self.lives += lives;
        self.cut_starts += cut_starts;
        self.moves += moves;
        self.cut_moves += cut_moves;
        self.reused_journal_files += reused_journal_files;
        self.commits += commits;
        self.steps += steps;
        self.acked_batches += acked_batches;
        self.delivered_batches += delivered_batches;
        self.duplicates += duplicates;
        self.refused_full += refused_full;
        self.written_bytes += written_bytes;
        self.expiries += expiries;
        self.swept_files += swept_files;
        self.topic_files += topic_files;
        self.faults += faults;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultCounts {
            reads,
            writes,
            lost_writes,
            misdirected_writes,
            syncs,
            dir_syncs,
            opens,
            lies,
            flipped_bits,
            failed_sectors,
            // Nothing here asks for them.
            writes_no_room: _,
            allocates: _,
        } = self.faults;
        writeln!(
            f,
            "{} lives, {} starts cut short, {} to other shards and {} of those cut short; {} acknowledgements, {} deliveries, {} duplicates, {} commits of groups, \
             {} journal files used again, {} expiries, {} files swept, {} files of deleted topics, {} steps",
            self.lives,
            self.cut_starts,
            self.moves,
            self.cut_moves,
            self.acked_batches,
            self.delivered_batches,
            self.duplicates,
            self.commits,
            self.reused_journal_files,
            self.expiries,
            self.swept_files,
            self.topic_files,
            self.steps
        )?;
        write!(
            f,
            "struck: failed reads {reads}, writes {writes}, syncs {syncs}, syncs of directories {dir_syncs}, opens {opens}; refused on a full disk {}; \
             lost writes {lost_writes}, misdirected {misdirected_writes}, bits {flipped_bits}, sectors {failed_sectors}; lies {lies}",
            self.refused_full
        )
    }
}
