//! A batch for what is done to batches.

use gannet_wire::Timestamp;
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression};

/// A small batch in which every column has something.
pub(crate) fn full_batch(compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"id")), ("null", None)];
    builder
        .push(Timestamp(10), Some(b"key one"), Some(b"value one"), &[])
        .unwrap();
    builder
        .push(Timestamp(30), None, Some(&[b'z'; 100]), &headers)
        .unwrap();
    builder
        .push(Timestamp(20), Some(b"key three"), None, &headers[..1])
        .unwrap();
    builder.build(compression, None).to_vec()
}
