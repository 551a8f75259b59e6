//! Records of one partition, copied together from where a client library keeps them only for a moment.

use std::ops::Range;

use crate::worker::port::{Delivered, Delivery, PortError};

/// Consecutive records of one partition.
#[derive(Debug)]
pub struct Gathered {
    partition: u32,
    bytes: Vec<u8>,
    records: Vec<Place>,
}

/// Where in the bytes a record lies.
#[derive(Debug)]
struct Place {
    offset: u64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Gathered {
    /// None so far.
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            bytes: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Copies one more.
    pub(super) fn push(&mut self, offset: u64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let mut copy = |part: &[u8]| {
            let begin = self.bytes.len();
            self.bytes.extend_from_slice(part);
            begin..self.bytes.len()
        };
        let (key, value) = (key.map(&mut copy), value.map(&mut copy));
        self.records.push(Place { offset, key, value });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether they are of that partition.
    pub(super) fn is_of(&self, partition: u32) -> bool {
        self.partition == partition
    }
}

impl Delivery for Gathered {
    fn partition(&self) -> u32 {
        self.partition
    }

    fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
        let part = |range: &Option<Range<usize>>| {
            range
                .as_ref()
                .and_then(|range| self.bytes.get(range.clone()))
        };
        for record in &self.records {
            take(Delivered {
                offset: record.offset,
                key: part(&record.key),
                value: part(&record.value),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_come_out_as_they_went_in() {
        type Part = Option<&'static [u8]>;
        let given: [(u64, Part, Part); 4] = [
            (7, Some(b"key"), Some(b"value")),
            (8, None, Some(b"")),
            (9, Some(b""), None),
            (12, None, Some(b"more")),
        ];
        let mut gathered = Gathered::new(3);
        for (offset, key, value) in given {
            gathered.push(offset, key, value);
        }
        let mut index = 0;
        gathered
            .for_each(|record| {
                assert_eq!((record.offset, record.key, record.value), given[index]);
                index += 1;
            })
            .unwrap();
        assert_eq!((gathered.partition(), gathered.len(), index), (3, 4, 4));
    }
}
