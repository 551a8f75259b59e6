//! A producer of librdkafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};

use super::trouble::Trouble;
use super::{REQUEST_MAX, port_error};
use crate::driver::answers::AnswerBox;
use crate::worker::port::{Answer, Outlet, PortError};

/// A record not acknowledged by then fails the run.
const DELIVERY_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether a full queue has room, when no answer says so.
const LOOK: Duration = Duration::from_millis(1);

/// A producer.
pub struct KafkaOutlet {
    producer: ThreadedProducer<Reports>,
    topic: String,
    answers: Arc<AnswerBox>,
    trouble: Arc<Trouble>,
    sent: u64,
}

impl KafkaOutlet {
    /// A producer with that configuration.
    pub(super) fn new(config: &mut ClientConfig, topic: &str) -> KafkaResult<Self> {
        let answers = Arc::new(AnswerBox::default());
        let trouble = Arc::new(Trouble::default());
        config.set("message.timeout.ms", DELIVERY_MAX.as_millis().to_string());
        let producer = config.create_with_context(Reports {
            answers: answers.clone(),
            trouble: trouble.clone(),
        })?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            answers,
            trouble,
            sent: 0,
        })
    }
}

impl Outlet for KafkaOutlet {
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError> {
        let mut record = BaseRecord {
            topic: &self.topic,
            partition: Some(partition.cast_signed()),
            payload: Some(value),
            key,
            timestamp: None,
            headers: None,
            delivery_opaque: token as usize,
        };
        let mut full_since = None;
        loop {
            let answered = self.answers.wait(0, Duration::ZERO);
            let (error, refused) = match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(refused) => refused,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(port_error(error));
            }
            if full_since.get_or_insert_with(Instant::now).elapsed() > DELIVERY_MAX {
                return Err(self.trouble.add_to("the producer's queue stays full"));
            }
            record = refused;
            // The room comes a moment after the answer, so not every wait ends with one.
            self.answers.wait(answered + 1, LOOK);
        }
    }

    fn answers(&mut self, into: &mut Vec<Answer>) {
        self.answers.take(into);
    }

    fn flush(&mut self) -> Result<(), PortError> {
        // Every record has its report by then, be it that its time is over.
        let answered = self.answers.wait(self.sent, DELIVERY_MAX + REQUEST_MAX);
        match self.sent.saturating_sub(answered) {
            0 => Ok(()),
            open => Err(self
                .trouble
                .add_to(&format!("{open} record(s) were never answered"))),
        }
    }
}

/// Takes the delivery reports, on the producer's polling thread.
struct Reports {
    answers: Arc<AnswerBox>,
    trouble: Arc<Trouble>,
}

impl ClientContext for Reports {
    // What matters of it comes as an error too.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(&error, reason);
    }
}

impl ProducerContext for Reports {
    /// The record's token.
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, token: usize) {
        let (partition, result) = match report {
            // What an acknowledgement means, only the cluster's configuration knows.
            Ok(message) => (message.partition(), Ok(None)),
            Err((error, message)) => (message.partition(), Err(error.to_string())),
        };
        self.answers
            .put(partition.cast_unsigned(), token as u64, result);
    }
}
