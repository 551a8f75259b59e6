//! What became of the records that were sent.

use std::collections::VecDeque;
use std::time::Instant;

use super::error::ClientError;
use crate::frame::Durability;
use crate::ids::{Offset, PartitionIndex, Timestamp};

/// What became of a batch: consecutive records of one partition.
///
/// Reports come for batches with a record that was sent with a token, for each partition in the order of sending.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// The partition.
    pub partition: PartitionIndex,
    /// How many records.
    pub records: u32,
    /// The token of the first record that had one.
    pub first_token: Option<u64>,
    /// When the first record was handed to `send`.
    pub sent_at: Instant,
    /// When the answer had come, or the producer gave up.
    pub settled_at: Instant,
    /// Where the batch is, or why it is not known to be anywhere.
    pub result: Result<Delivered, ClientError>,
}

/// Where a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The broker's time at the append.
    pub append_time: Timestamp,
    /// What was reached.
    pub durability: Durability,
    /// Whether an earlier attempt had stored it.
    pub duplicate: bool,
}

/// What a step settled; handed from a lane to its producer's books.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    pub(crate) freed_bytes: usize,
    pub(crate) failed_records: u64,
    pub(crate) first_failure: Option<ClientError>,
    pub(crate) settled_batches: u64,
    reports: Vec<DeliveryReport>,
}

impl Settlement {
    pub(crate) fn record(&mut self, report: DeliveryReport) {
        self.settled_batches += 1;
        if let Err(error) = &report.result {
            self.failed_records += u64::from(report.records);
            if self.first_failure.is_none() {
                self.first_failure = Some(error.clone());
            }
        }
        if report.first_token.is_some() {
            self.reports.push(report);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settled_batches == 0
    }

    /// Whether there is something for the books, beyond the bytes.
    pub(crate) fn needs_entry(&self) -> bool {
        self.failed_records > 0 || !self.reports.is_empty()
    }
}

/// A producer's books: failures not yet told, reports not yet fetched.
#[derive(Debug, Default)]
pub(crate) struct Books {
    reports: VecDeque<DeliveryReport>,
    reports_lost: u64,
    failed_records: u64,
    first_failure: Option<ClientError>,
}

impl Books {
    pub(crate) fn enter(&mut self, settlement: &mut Settlement) {
        self.failed_records += settlement.failed_records;
        if self.first_failure.is_none() {
            self.first_failure = settlement.first_failure.take();
        }
        for report in settlement.reports.drain(..) {
            if self.reports.len() >= REPORTS_MAX {
                self.reports_lost += 1;
            } else {
                self.reports.push_back(report);
            }
        }
    }

    pub(crate) fn drain_reports(&mut self, into: &mut Vec<DeliveryReport>) {
        into.extend(self.reports.drain(..));
    }

    pub(crate) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    pub(crate) const fn reports_lost(&self) -> u64 {
        self.reports_lost
    }

    /// The failures since the last call.
    pub(crate) fn take_failure(&mut self) -> Result<(), ClientError> {
        match self.first_failure.take() {
            None => Ok(()),
            Some(cause) => Err(ClientError::Undelivered {
                records: std::mem::take(&mut self.failed_records),
                cause: Box::new(cause),
            }),
        }
    }
}

/// Reports kept for a caller who does not fetch them; further ones are counted and dropped.
const REPORTS_MAX: usize = 1 << 20;
