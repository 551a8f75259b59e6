//! Consuming with asynchronous libraries: a task for each partition hands what comes to the consumer's thread, over a queue that holds a bounded number of records.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::worker::port::{Delivered, Delivery, Inlet, PortError};

/// What has come already is handed over together, up to so many records.
const TOGETHER_MAX: usize = 64;
/// So many times that wait for the consumer's thread; beyond it the library is not asked for more.
const WAITING_MAX: usize = 16;

/// Consecutive records of one partition.
#[derive(Debug)]
pub struct Forwarded {
    partition: u32,
    records: Vec<Record>,
}

/// A record as the library gave it.
#[derive(Debug)]
pub(super) struct Record {
    /// Its place in its partition.
    pub(super) offset: u64,
    /// Its key.
    pub(super) key: Option<Bytes>,
    /// Its value.
    pub(super) value: Bytes,
}

impl Delivery for Forwarded {
    fn partition(&self) -> u32 {
        self.partition
    }

    fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
        for record in &self.records {
            take(Delivered {
                offset: record.offset,
                key: record.key.as_deref(),
                value: Some(&record.value),
            });
        }
        Ok(())
    }
}

/// The consumer's end. `C` is the connection, which lives as long.
#[derive(Debug)]
pub struct ForwardedInlet<C> {
    receiver: flume::Receiver<Result<Forwarded, PortError>>,
    sender: flume::Sender<Result<Forwarded, PortError>>,
    tasks: Vec<AbortHandle>,
    _connection: C,
}

impl<C> ForwardedInlet<C> {
    /// One that nothing is forwarded to yet.
    pub(super) fn new(connection: C) -> Self {
        let (sender, receiver) = flume::bounded(WAITING_MAX);
        Self {
            receiver,
            sender,
            tasks: Vec::new(),
            _connection: connection,
        }
    }

    /// Forwards what `stream` gives, until it ends or fails. `done` gets what it gave, after that has been handed over: for acknowledging it.
    pub(super) fn forward<S, T, A, D>(
        &mut self,
        runtime: &Handle,
        partition: u32,
        stream: S,
        done: D,
    ) where
        S: Stream<Item = Result<(Record, T), PortError>> + Send + 'static,
        T: Send + 'static,
        D: Fn(T) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), PortError>> + Send,
    {
        let sender = self.sender.clone();
        let task = runtime.spawn(async move {
            let mut chunks = std::pin::pin!(stream.ready_chunks(TOGETHER_MAX));
            while let Some(chunk) = chunks.next().await {
                let ended = hand_over(partition, chunk, &sender, &done).await;
                if let Err(error) = ended {
                    // When the consumer has gone there is nobody to tell.
                    let _ = sender.send_async(Err(error)).await;
                    return;
                }
            }
            let ended = PortError(format!("the broker gives no more of partition {partition}"));
            let _ = sender.send_async(Err(ended)).await;
        });
        self.tasks.push(task.abort_handle());
    }
}

async fn hand_over<T, A: Future<Output = Result<(), PortError>>>(
    partition: u32,
    chunk: Vec<Result<(Record, T), PortError>>,
    sender: &flume::Sender<Result<Forwarded, PortError>>,
    done: impl Fn(T) -> A,
) -> Result<(), PortError> {
    let mut records = Vec::with_capacity(chunk.len());
    let (mut last, mut failed) = (None, Ok(()));
    for item in chunk {
        match item {
            Ok((record, of_library)) => {
                records.push(record);
                last = Some(of_library);
            }
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    if !records.is_empty() {
        // When the consumer has gone, the task is about to be ended.
        let _ = sender
            .send_async(Ok(Forwarded { partition, records }))
            .await;
    }
    if let Some(last) = last {
        done(last).await?;
    }
    failed
}

impl<C> Inlet for ForwardedInlet<C> {
    type Delivery = Forwarded;

    fn next(&mut self, timeout: Duration) -> Result<Option<Forwarded>, PortError> {
        // The sender of its own keeps the queue open, so an error is that nothing has come.
        self.receiver.recv_timeout(timeout).ok().transpose()
    }
}

impl<C> Drop for ForwardedInlet<C> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64) -> Record {
        Record {
            offset,
            key: Some(Bytes::from_static(b"key")),
            value: Bytes::from(vec![offset as u8]),
        }
    }

    fn offsets(delivery: &Forwarded) -> Vec<u64> {
        let mut offsets = Vec::new();
        delivery
            .for_each(|record| {
                assert_eq!(record.key, Some(b"key".as_slice()));
                assert_eq!(record.value, Some([record.offset as u8].as_slice()));
                offsets.push(record.offset);
            })
            .unwrap();
        offsets
    }

    #[test]
    fn what_a_stream_gives_comes_whole_and_then_why_no_more_does() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (acked, acks) = std::sync::mpsc::channel();
        let mut inlet = ForwardedInlet::new(());
        let given = (0..200).map(|offset| Ok((record(offset), offset)));
        let failed = std::iter::once(Err(PortError("broken".to_owned())));
        let stream = futures_util::stream::iter(given.chain(failed));
        inlet.forward(runtime.handle(), 3, stream, move |offset| {
            acked.send(offset).unwrap();
            async { Ok(()) }
        });
        let mut got = Vec::new();
        let error = loop {
            match inlet.next(Duration::from_secs(60)) {
                Ok(Some(delivery)) => {
                    assert_eq!(delivery.partition(), 3);
                    got.extend(offsets(&delivery));
                }
                Ok(None) => panic!("nothing comes"),
                Err(error) => break error,
            }
        };
        assert_eq!(got, (0..200).collect::<Vec<_>>());
        assert_eq!(error.to_string(), "broken");
        // The last of each that were handed over together.
        assert_eq!(acks.iter().last(), Some(199));
    }
}
