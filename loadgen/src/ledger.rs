//! What one producer sent to each partition, and what of it was acknowledged: the truth that consumers are held to.

use std::collections::VecDeque;

/// One producer's books. They outlive a phase: sequence numbers go on in the next.
#[derive(Debug)]
pub struct Ledger {
    partitions: Vec<PartitionLedger>,
    sent: u64,
    acked: u64,
    failed: u64,
}

#[derive(Clone, Debug, Default)]
struct PartitionLedger {
    /// Records sent: the next one's sequence number.
    sent: u64,
    /// Records answered, with an acknowledgement or a failure. Answers come in the order sent.
    answered: u64,
    /// Records acknowledged without a failure before them.
    acked: u64,
    any_failed: bool,
    /// When the records in flight should have left, oldest first, as (time, how many in a row).
    in_flight: VecDeque<(u64, u64)>,
}

/// An answer that does not fit what was sent: a fault of the client or the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// An answer for a partition that does not exist.
    #[error("an answer came for partition {partition}, of which there is none")]
    NoSuchPartition {
        /// The partition.
        partition: u32,
    },
    /// More records answered than are in flight.
    #[error(
        "partition {partition}: {answered} records were answered but {in_flight} were in flight"
    )]
    NotInFlight {
        /// The partition.
        partition: u32,
        /// How many the answer was for.
        answered: u64,
        /// How many there were.
        in_flight: u64,
    },
    /// An answer out of turn.
    #[error(
        "partition {partition}: the answer for record {answered} came when that for {expected} was due"
    )]
    OutOfTurn {
        /// The partition.
        partition: u32,
        /// The sequence number of the first record answered.
        answered: u64,
        /// The one due.
        expected: u64,
    },
}

impl Ledger {
    /// Books for a topic with that many partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self {
            partitions: vec![PartitionLedger::default(); partitions as usize],
            sent: 0,
            acked: 0,
            failed: 0,
        }
    }

    /// The sequence number of the next record to this partition.
    #[must_use]
    #[inline]
    pub fn next_sequence(&self, partition: u32) -> u64 {
        self.partitions
            .get(partition as usize)
            .map_or(0, |ledger| ledger.sent)
    }

    /// Books one record as sent; it should have left at `intended_ns`.
    ///
    /// # Panics
    /// When there is no such partition.
    #[inline]
    pub fn book_sent(&mut self, partition: u32, intended_ns: u64) {
        let ledger = self
            .partitions
            .get_mut(partition as usize)
            .expect("a producer sends to the topic's partitions only");
        ledger.sent += 1;
        self.sent += 1;
        match ledger.in_flight.back_mut() {
            Some((time, count)) if *time == intended_ns => *count += 1,
            _ => ledger.in_flight.push_back((intended_ns, 1)),
        }
    }

    /// Takes back the last [`Ledger::book_sent`]: the client refused the record.
    pub fn unbook(&mut self, partition: u32) {
        let Some(ledger) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        if let Some((_, count)) = ledger.in_flight.back_mut() {
            *count -= 1;
            if *count == 0 {
                ledger.in_flight.pop_back();
            }
            ledger.sent -= 1;
            self.sent -= 1;
        }
    }

    /// Books an answer for the next `count` records of a partition, of which `first` is the first sequence number. `latency` is called with each time at which records
    /// should have left, and how many.
    ///
    /// # Errors
    /// [`LedgerFault`] when the answer fits nothing in flight.
    pub fn book_answer(
        &mut self,
        partition: u32,
        first: u64,
        count: u64,
        acked: bool,
        mut latency: impl FnMut(u64, u64),
    ) -> Result<(), LedgerFault> {
        let ledger = self
            .partitions
            .get_mut(partition as usize)
            .ok_or(LedgerFault::NoSuchPartition { partition })?;
        if first != ledger.answered {
            return Err(LedgerFault::OutOfTurn {
                partition,
                answered: first,
                expected: ledger.answered,
            });
        }
        let in_flight = ledger.sent - ledger.answered;
        if count > in_flight {
            return Err(LedgerFault::NotInFlight {
                partition,
                answered: count,
                in_flight,
            });
        }
        let mut left = count;
        while left > 0 {
            let Some((intended_ns, waiting)) = ledger.in_flight.front_mut() else {
                break;
            };
            let taken = left.min(*waiting);
            latency(*intended_ns, taken);
            left -= taken;
            *waiting -= taken;
            if *waiting == 0 {
                ledger.in_flight.pop_front();
            }
        }
        ledger.answered += count;
        if acked {
            self.acked += count;
            if !ledger.any_failed {
                ledger.acked += count;
            }
        } else {
            ledger.any_failed = true;
            self.failed += count;
        }
        Ok(())
    }

    /// How many records of a partition were sent.
    #[must_use]
    pub fn sent(&self, partition: u32) -> u64 {
        self.next_sequence(partition)
    }

    /// How many records of a partition, from the first, were all acknowledged. What was acknowledged behind a failure is not counted: a failed run is failed anyhow.
    #[must_use]
    pub fn acked(&self, partition: u32) -> u64 {
        self.partitions
            .get(partition as usize)
            .map_or(0, |ledger| ledger.acked)
    }

    /// Records sent to all partitions.
    #[must_use]
    pub fn sent_total(&self) -> u64 {
        self.sent
    }

    /// Records acknowledged in all partitions.
    #[must_use]
    pub fn acked_total(&self) -> u64 {
        self.acked
    }

    /// Records sent but not acknowledged: refused, or not answered yet.
    #[must_use]
    pub fn unacked_total(&self) -> u64 {
        self.sent - self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_give_back_when_each_record_should_have_left() {
        let mut ledger = Ledger::new(1);
        for intended_ns in [10, 10, 20, 30] {
            ledger.book_sent(0, intended_ns);
        }
        let mut latencies = Vec::new();
        ledger
            .book_answer(0, 0, 3, true, |ns, count| latencies.push((ns, count)))
            .unwrap();
        assert_eq!(latencies, [(10, 2), (20, 1)]);
        assert_eq!((ledger.acked(0), ledger.unacked_total()), (3, 1));
    }

    #[test]
    fn an_answer_may_cover_a_part_of_what_left_together() {
        let mut ledger = Ledger::new(1);
        for _ in 0..5 {
            ledger.book_sent(0, 10);
        }
        let mut latencies = Vec::new();
        ledger
            .book_answer(0, 0, 2, true, |ns, count| latencies.push((ns, count)))
            .unwrap();
        ledger
            .book_answer(0, 2, 3, true, |ns, count| latencies.push((ns, count)))
            .unwrap();
        assert_eq!(latencies, [(10, 2), (10, 3)]);
    }

    #[test]
    fn what_is_acknowledged_behind_a_failure_does_not_count_as_acknowledged() {
        let mut ledger = Ledger::new(1);
        for _ in 0..3 {
            ledger.book_sent(0, 10);
        }
        ledger.book_answer(0, 0, 1, true, |_, _| {}).unwrap();
        ledger.book_answer(0, 1, 1, false, |_, _| {}).unwrap();
        ledger.book_answer(0, 2, 1, true, |_, _| {}).unwrap();
        assert_eq!(
            (
                ledger.acked(0),
                ledger.acked_total(),
                ledger.unacked_total()
            ),
            (1, 2, 1)
        );
    }

    #[test]
    fn an_answer_out_of_turn_is_a_fault() {
        let mut ledger = Ledger::new(1);
        ledger.book_sent(0, 10);
        ledger.book_sent(0, 10);
        let fault = ledger.book_answer(0, 1, 1, true, |_, _| {});
        assert_eq!(
            fault,
            Err(LedgerFault::OutOfTurn {
                partition: 0,
                answered: 1,
                expected: 0
            })
        );
    }

    #[test]
    fn an_answer_for_more_than_is_in_flight_is_a_fault() {
        let mut ledger = Ledger::new(2);
        ledger.book_sent(1, 10);
        let fault = ledger.book_answer(1, 0, 2, true, |_, _| {});
        assert_eq!(
            fault,
            Err(LedgerFault::NotInFlight {
                partition: 1,
                answered: 2,
                in_flight: 1
            })
        );
    }

    #[test]
    fn a_refused_record_gives_its_sequence_number_back() {
        let mut ledger = Ledger::new(1);
        ledger.book_sent(0, 10);
        ledger.book_sent(0, 20);
        ledger.unbook(0);
        assert_eq!((ledger.next_sequence(0), ledger.unacked_total()), (1, 1));
    }
}
