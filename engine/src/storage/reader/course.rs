//! What comes behind a run in its partition: a reader that goes on reads the end of one run and the beginning of the next, often in the same chunk.

use crate::io::BLOCK_BYTES;
use crate::storage::segment::Run;

/// A run, and those that follow it in the order of offsets.
///
/// Where some batches went straight to a segment and others by the journal, the runs of two segments alternate, each a few chunks long or less.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) run: &'a Run,
    pub(super) behind: &'a [Run],
}

impl<'a> Course<'a> {
    /// Behind the last byte of this run's segment that is known to be durable: its own, and what runs of the same partition have right behind it.
    pub(super) fn joined_end(self) -> u64 {
        let same_segment = |next: &&Run| next.segment == self.run.segment;
        let mut end = self.run.end;
        for next in self.behind.iter().filter(same_segment) {
            // A write begins a block. What lies between others may still be on its way.
            let is_joined = next.position >= end && next.position - end < BLOCK_BYTES as u64;
            if !is_joined {
                break;
            }
            end = next.end;
        }
        end
    }

    /// The chunks behind the one at `start` of this run, in the order in which they are needed, each with the course from its run on. A chunk that several
    /// runs need comes once. Short stretches of a segment that is shared are left out.
    pub(super) fn chunks_behind(
        self,
        start: u64,
        chunk_bytes: u64,
    ) -> impl Iterator<Item = (Self, u64)> + 'a {
        let mut course = self;
        let mut last = Some(start);
        let mut known = vec![(self.run.segment, start)];
        std::iter::from_fn(move || {
            loop {
                let run = course.run;
                let first = run.position - run.position % chunk_bytes;
                let next = last.map_or(first, |last| last + chunk_bytes);
                if next >= run.end {
                    let (run, behind) = course.behind.split_first()?;
                    course = Course { run, behind };
                    // A chunk for each of thousands of partitions that have a little of it would drive out those that are being read.
                    let is_long = run.end - run.position >= chunk_bytes / SHORT_PARTS;
                    last = (run.segment.shared && !is_long).then_some(run.end);
                    continue;
                }
                last = Some(next);
                let chunk = (run.segment, next);
                if !known.contains(&chunk) {
                    known.push(chunk);
                    return Some((course, next));
                }
            }
        })
    }
}

/// A run of a shared segment that is shorter than this part of a chunk is not read ahead.
const SHORT_PARTS: u64 = 4;

#[cfg(test)]
mod tests {
    use gannet_wire::{Offset, Timestamp};

    use super::*;
    use crate::storage::SegmentId;
    use crate::storage::segment::SegmentRef;

    const CHUNK: u64 = 1 << 20;

    fn run(segment: u64, base_offset: u64, position: u64, end: u64) -> Run {
        Run {
            segment: SegmentRef {
                id: SegmentId(segment),
                shared: false,
            },
            base_offset: Offset(base_offset),
            next_offset: Offset(base_offset + 10),
            position,
            end,
            max_timestamp: Timestamp(0),
            append_time: Timestamp(0),
        }
    }

    fn chunks(runs: &[Run], start: u64) -> Vec<(u64, u64)> {
        let course = Course {
            run: &runs[0],
            behind: &runs[1..],
        };
        course
            .chunks_behind(start, CHUNK)
            .map(|(course, start)| (course.run.segment.id.0, start / CHUNK))
            .collect()
    }

    fn joined_end(runs: &[Run]) -> u64 {
        let course = Course {
            run: &runs[0],
            behind: &runs[1..],
        };
        course.joined_end()
    }

    #[test]
    fn a_run_alone_ends_where_it_ends() {
        let alone = run(1, 0, 4096, 3 * CHUNK + 8);
        assert_eq!(joined_end(&[alone]), alone.end);
        assert_eq!(chunks(&[alone], 0), [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(chunks(&[alone], 3 * CHUNK), []);
    }

    #[test]
    fn runs_of_two_segments_that_alternate_are_joined_each_with_its_own() {
        let runs = [
            run(1, 0, 4096, CHUNK + 100),
            run(2, 10, 4096, CHUNK / 2),
            run(1, 20, CHUNK + 4096, 2 * CHUNK),
            run(2, 30, CHUNK / 2, 2 * CHUNK),
        ];
        assert_eq!(joined_end(&runs), 2 * CHUNK);
        assert_eq!(joined_end(&runs[1..]), 2 * CHUNK);
        // The second chunk of the first segment is there for both of its runs, the first one of the second likewise.
        assert_eq!(chunks(&runs, 0), [(1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn short_stretches_of_a_shared_segment_are_not_read_ahead() {
        let shared = |run: Run| Run {
            segment: SegmentRef {
                shared: true,
                ..run.segment
            },
            ..run
        };
        let long = shared(run(3, 20, 4096, 4096 + CHUNK / 4));
        let short = shared(run(2, 10, 5 * CHUNK, 5 * CHUNK + CHUNK / 4 - 1));
        let own = run(4, 30, 5 * CHUNK, 5 * CHUNK + 8);
        let runs = [run(1, 0, 4096, CHUNK), short, long, own];
        assert_eq!(chunks(&runs, 0), [(3, 0), (4, 5)]);
    }

    #[test]
    fn what_others_may_still_be_writing_to_is_not_joined() {
        let gap = run(1, 20, CHUNK + 4096, 2 * CHUNK);
        let far = run(1, 30, 2 * CHUNK, 3 * CHUNK);
        let before = run(1, 10, 4096, CHUNK / 2);
        assert_eq!(joined_end(&[run(1, 0, 4096, CHUNK), gap, far]), CHUNK);
        assert_eq!(
            joined_end(&[run(1, 0, CHUNK, CHUNK + 10), before]),
            CHUNK + 10
        );
    }
}
