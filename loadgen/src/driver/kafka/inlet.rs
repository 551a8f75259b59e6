//! A consumer of librdkafka.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Message};

use super::trouble::{Trouble, Watch};
use crate::driver::gathered::Gathered;
use crate::worker::port::{Inlet, PortError};

/// Messages are taken from librdkafka one by one; so many of a partition are handed on together.
const GATHERED_MAX: usize = 64;

/// A consumer.
pub struct KafkaInlet {
    consumer: BaseConsumer<Watch>,
    is_idle: bool,
    /// Taken already, of another partition than what was delivered.
    next: Option<Gathered>,
    failed: Option<PortError>,
    trouble: Arc<Trouble>,
}

impl KafkaInlet {
    /// A consumer of what was assigned to it; an idle one when that is nothing.
    pub(super) fn new(consumer: BaseConsumer<Watch>, is_idle: bool, trouble: Arc<Trouble>) -> Self {
        Self {
            consumer,
            is_idle,
            next: None,
            failed: None,
            trouble,
        }
    }

    fn poll(&self, timeout: Duration) -> Result<Option<BorrowedMessage<'_>>, PortError> {
        self.consumer
            .poll(timeout)
            .transpose()
            .map_err(|error| self.trouble.add_to(&error.to_string()))
    }

    /// The beginning of a delivery.
    fn first(&mut self, timeout: Duration) -> Result<Option<Gathered>, PortError> {
        if let Some(gathered) = self.next.take() {
            return Ok(Some(gathered));
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        Ok(self.poll(timeout)?.map(|message| begun_with(&message)))
    }
}

impl Inlet for KafkaInlet {
    type Delivery = Gathered;

    fn next(&mut self, timeout: Duration) -> Result<Option<Gathered>, PortError> {
        if self.is_idle {
            std::thread::sleep(timeout);
            return Ok(None);
        }
        let Some(mut gathered) = self.first(timeout)? else {
            return Ok(None);
        };
        while gathered.len() < GATHERED_MAX && self.failed.is_none() {
            match self.poll(Duration::ZERO) {
                Ok(None) => break,
                Ok(Some(message)) if gathered.is_of(partition(&message)) => {
                    add(&mut gathered, &message);
                }
                Ok(Some(message)) => {
                    let next = begun_with(&message);
                    self.next = Some(next);
                    break;
                }
                // What was gathered comes first.
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(Some(gathered))
    }
}

fn begun_with(message: &BorrowedMessage<'_>) -> Gathered {
    let mut gathered = Gathered::new(partition(message));
    add(&mut gathered, message);
    gathered
}

fn add(gathered: &mut Gathered, message: &BorrowedMessage<'_>) {
    gathered.push(
        message.offset().cast_unsigned(),
        message.key(),
        message.payload(),
    );
}

fn partition(message: &BorrowedMessage<'_>) -> u32 {
    message.partition().cast_unsigned()
}
