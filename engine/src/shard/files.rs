//! How a shard divides the descriptors that it may have open for segments.

/// A shard's descriptors for segments: reading and both ways of writing draw on one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileShares {
    /// Kept open for readers.
    pub(super) reading: usize,
    /// Open for what goes straight to segments.
    pub(super) direct: usize,
    /// Open for the flusher.
    pub(super) flush: usize,
}

impl FileShares {
    /// Open for writing.
    pub(super) fn writing(&self) -> usize {
        self.direct + self.flush
    }

    /// Half is for readers, who have many partitions; with less than three each has one all the same.
    pub(super) fn of(open_files_max: usize) -> Self {
        let reading = (open_files_max / 2).max(1);
        let direct = (open_files_max / 4).max(1);
        let flush = open_files_max.saturating_sub(reading + direct).max(1);
        Self {
            reading,
            direct,
            flush,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_both_ways_of_writing_share_one_number_of_descriptors() {
        for open_files_max in 3..2_000 {
            let shares = FileShares::of(open_files_max);
            assert!(shares.reading >= 1 && shares.direct >= 1 && shares.flush >= 1);
            assert_eq!(
                shares.reading + shares.direct + shares.flush,
                open_files_max
            );
        }
    }
}
