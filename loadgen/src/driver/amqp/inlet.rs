//! A consumer of lapin.

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, Consumer};
use tokio::runtime::Handle;

use super::{failed, short};
use crate::driver::forwarded::{ForwardedInlet, Record};

/// Messages that a consumer is given before it has acknowledged any. Enough for the acknowledgements never to be waited for.
const PREFETCHED_MAX: u16 = 2_000;

/// Subscribes to a queue on a channel of its own: acknowledgements of many at a time are the channel's.
pub(super) async fn consume(connection: &Connection, queue: &str) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCHED_MAX, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(
            short(queue),
            short("gannet-loadgen"),
            options,
            FieldTable::default(),
        )
        .await
}

/// Forwards what it gives, and acknowledges it once it has been handed over.
pub(super) fn forward(
    inlet: &mut ForwardedInlet<Connection>,
    runtime: &Handle,
    partition: u32,
    consumer: Consumer,
) {
    let records = consumer
        .zip(futures_util::stream::iter(0..))
        .map(|(delivery, offset)| {
            let delivery = delivery.map_err(|error| failed("consuming", &error))?;
            Ok(record(delivery, offset))
        });
    inlet.forward(
        runtime,
        partition,
        records,
        |acker: lapin::Acker| async move {
            let all_until_it = BasicAckOptions { multiple: true };
            acker
                .ack(all_until_it)
                .await
                .map(|_| ())
                .map_err(|error| failed("acknowledging", &error))
        },
    );
}

fn record(delivery: Delivery, offset: u64) -> (Record, lapin::Acker) {
    let key = delivery
        .properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get("key"))
        .and_then(|key| match key {
            AMQPValue::LongString(key) => Some(Bytes::copy_from_slice(key.as_bytes())),
            _ => None,
        });
    let record = Record {
        offset,
        key,
        value: Bytes::from(delivery.data),
    };
    (record, delivery.acker)
}
