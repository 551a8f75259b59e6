//! A producer of lapin.

use std::task::{Context, Poll, Waker};

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};

use super::{Route, short};
use crate::driver::confirms::Confirms;
use crate::worker::port::{Answer, Outlet, PortError};

/// Written to the disk by the broker, as far as its queue does that.
const PERSISTENT: u8 = 2;

/// A producer.
pub struct AmqpOutlet {
    channel: Channel,
    routes: Vec<Route>,
    confirms: Confirms,
    _connection: Connection,
}

impl AmqpOutlet {
    /// One that publishes over this channel, which confirms.
    pub(super) fn new(
        connection: Connection,
        channel: Channel,
        routes: Vec<Route>,
        confirms: Confirms,
    ) -> Self {
        Self {
            channel,
            routes,
            confirms,
            _connection: connection,
        }
    }
}

impl Outlet for AmqpOutlet {
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError> {
        self.confirms.wait_for_room()?;
        let route = self
            .routes
            .get(partition as usize)
            .ok_or_else(|| PortError(format!("there is no partition {partition}")))?
            .clone();
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        if let Some(key) = key {
            let mut headers = FieldTable::default();
            headers.insert(short("key"), AMQPValue::LongString(key.into()));
            properties = properties.with_headers(headers);
        }
        let channel = self.channel.clone();
        let value = value.to_vec();
        let mut confirmation = Box::pin(async move {
            // A message that no queue takes must come back, not be confirmed and gone.
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let confirmed = channel
                .basic_publish(route.exchange, route.key, options, &value, properties)
                .await
                .map_err(|error| error.to_string())?
                .await
                .map_err(|error| error.to_string())?;
            match confirmed {
                Confirmation::Ack(None) => Ok(()),
                Confirmation::Ack(Some(_)) => Err("no queue took it".to_owned()),
                Confirmation::Nack(_) => Err("the broker refused it".to_owned()),
                Confirmation::NotRequested => Err("it was not to be confirmed".to_owned()),
            }
        });
        // IMPORTANT: the first poll puts the message into the connection's queue, so it must be made here, for the order of sending to be that of the calls. To wait for
        // the message to be written, as lapin would have it, takes a change of threads for each, and is left to who awaits the confirmation.
        let mut nobody = Context::from_waker(Waker::noop());
        match confirmation.as_mut().poll(&mut nobody) {
            Poll::Pending => self.confirms.add(partition, token, confirmation),
            // Nothing can be confirmed yet.
            Poll::Ready(Err(error)) => Err(PortError(format!("publishing: {error}"))),
            Poll::Ready(Ok(())) => {
                self.confirms
                    .add(partition, token, Box::pin(std::future::ready(Ok(()))))
            }
        }
    }

    fn answers(&mut self, into: &mut Vec<Answer>) {
        self.confirms.take(into);
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.confirms.flush()
    }
}
